"""`Reading`: what the evidence says of one guardrail at one moment, with all the numbers that stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from penstock.rollout.counts import Tally, bounded_exp, log_e, mirrored, ratio_interval, totals
from penstock.rollout.guardrails import ALPHA_OF, Guardrail, Kind, limit_of
from penstock.rollout.non_inferior import PROOF_LIMIT, Proof, excluded_rate, proof_of
from penstock.rollout.ratio import MISMATCH_ALPHA, log_mismatch

SAMPLE_RATIO: Final = "sample_ratio"
INTERVAL_ALPHA: Final = 0.05

State: TypeAlias = Literal["ok", "alarm", "proven", "open"]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One guardrail, read.

    - `e` against `limit`: the evidence that the ratio of rates is above `r0`; an alarm from `limit` on. `limit` is
      `guardrails_of_kind / alpha`.
    - `ratio`: the observed ratio of rates (None while there is none); `lower`, `upper`: its interval, valid at any time
      at 95 %, for this guardrail alone; `upper` None: unbounded.
    - `canary_n`, `champion_n`: requests (for `slow`, looks; for labels, mature requests); `*_events`: how many of them
      had the event. `counted_events`: those that E rests on, one a caller.
    - `canary_at_most`: the canary's own rate is below this, at any time at 95 %; 1 while nothing is excluded.
    - `proof` against `proof_limit`: the evidence that a hard one is not inferior; `needed`: canary requests until then
      at the present rates, 0 when proven, None where the present rates lead nowhere or none is asked.
    - `state`: "alarm"; "proven" (hard: not inferior); "open" (hard: not yet; soft: nothing seen yet); "ok" (soft: no
      alarm).
    """

    name: str
    kind: Kind
    r0: float
    e: float
    limit: float
    ratio: float | None
    lower: float
    upper: float | None
    canary_n: int
    canary_events: int
    champion_n: int
    champion_events: int
    counted_events: int
    canary_at_most: float
    proof: float
    proof_limit: float
    needed: int | None
    state: State
    guardrails_of_kind: int
    alpha: float


def reading_of(guardrail: Guardrail, watched: Sequence[Guardrail], requests: Tally, *events: Tally) -> Reading:
    """Read one of the guardrails that are `watched`; `events`: all, and those that count for E (one a caller)."""
    every, counted = events
    (canary_n, champion_n), (canary_events, champion_events) = totals(requests), totals(every)
    evidence = log_e(mirrored(counted) if guardrail.is_mirrored else counted, guardrail.r0)
    limit = limit_of(guardrail.kind, watched)
    proof = proof_of(requests, every, counted) if guardrail.kind == "hard" else None
    lower, upper = ratio_interval(counted, INTERVAL_ALPHA)
    e = bounded_exp(evidence)
    is_ratio = canary_n > 0 and champion_events > 0
    return Reading(
        name=guardrail.name,
        kind=guardrail.kind,
        r0=guardrail.r0,
        e=e,
        limit=limit,
        ratio=canary_events / canary_n / (champion_events / champion_n) if is_ratio else None,
        lower=lower,
        upper=upper,
        canary_n=canary_n,
        canary_events=canary_events,
        champion_n=champion_n,
        champion_events=champion_events,
        counted_events=sum(totals(counted)),
        canary_at_most=excluded_rate(canary_n, canary_events),
        proof=0.0 if proof is None else bounded_exp(proof.log_e),
        proof_limit=PROOF_LIMIT,
        needed=None if proof is None else proof.needed,
        state="alarm" if e >= limit else _state(canary_n, proof),
        guardrails_of_kind=sum(other.kind == guardrail.kind for other in watched),
        alpha=ALPHA_OF[guardrail.kind],
    )


def is_alarm(guardrail: Guardrail, watched: Sequence[Guardrail], counted: Tally) -> bool:
    """Whether the reading of this guardrail, of the events that count, is an alarm."""
    evidence = log_e(mirrored(counted) if guardrail.is_mirrored else counted, guardrail.r0)
    return bounded_exp(evidence) >= limit_of(guardrail.kind, watched)


def sample_ratio_reading(first_requests: Tally) -> Reading:
    """Whether callers reach the arms as the weights say; it holds, has an alpha of its own, and is proven of nothing.

    `ratio` is that of callers to what the weights let expect.
    """
    canary, champion = totals(first_requests)
    lower, upper = ratio_interval(first_requests, INTERVAL_ALPHA)
    e = bounded_exp(log_mismatch(first_requests))
    expected = sum(share / 1_000_000 * sum(pair) for share, pair in first_requests.items())
    return Reading(
        name=SAMPLE_RATIO,
        kind="soft",
        r0=1.0,
        e=e,
        limit=1 / MISMATCH_ALPHA,
        ratio=canary / expected if expected else None,
        lower=lower,
        upper=upper,
        canary_n=canary,
        canary_events=canary,
        champion_n=champion,
        champion_events=champion,
        counted_events=canary + champion,
        canary_at_most=1.0,
        proof=0.0,
        proof_limit=PROOF_LIMIT,
        needed=None,
        state="alarm" if e >= 1 / MISMATCH_ALPHA else "ok" if canary + champion else "open",
        guardrails_of_kind=1,
        alpha=MISMATCH_ALPHA,
    )


def _state(canary_n: int, proof: Proof | None) -> State:
    if proof is not None:
        return "proven" if proof.is_proven else "open"
    return "ok" if canary_n else "open"
