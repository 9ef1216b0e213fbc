"""What a rollout does next: a snapshot goes in, one `Action` comes out. Pure; the controller carries it out.

The order of the questions is the order of harm: abort before hold, hold before going on. No evidence is never a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from penstock.rollout.declared import Plan, ReplayOptions, ShadowOptions
from penstock.rollout.reading import Reading

Stage: TypeAlias = Literal["replay", "shadow", "step"]
Verdict: TypeAlias = Literal["wait", "hold", "advance", "abort", "promote"]

_FULL: Final = 100.0


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What replay or shadow found so far: `rows` compared, how many of them failed or were refused (`errors`), were
    decided otherwise (`flips`), and could not be scored for want of fields. `is_done`: there is no more to come.
    `failure`: why it cannot be done at all.
    """

    rows: int = 0
    errors: int = 0
    flips: int = 0
    unscorable: int = 0
    is_done: bool = False
    failure: str | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a decision depends on.

    - `stage_s`: seconds since the stage or step began; `behind_s`: how far the evidence is behind the log.
    - `is_applied`: all workers have its weights; `unfit` says why this machine cannot serve the canary.
    - `readings`: the guardrails of the whole rollout. `canary_n`: requests of the canary that count, in this step.
    - `findings`: of replay or shadow, in those stages.
    - `held_by`: who holds it by hand, and why. `accepted`: soft alarms that a person has seen and let pass.
    """

    plan: Plan
    stage: Stage
    step: int = 0
    stage_s: float = 0.0
    behind_s: float = 0.0
    is_applied: bool = True
    unfit: str | None = None
    readings: tuple[Reading, ...] = ()
    canary_n: int = 0
    findings: Findings | None = None
    held_by: str | None = None
    accepted: frozenset[str] = frozenset()
    is_approved: bool = False


class Reason(msgspec.Struct, frozen=True):
    """Why: a `code` for programs (a guardrail's name, or one of docs/rollouts.md), and a sentence with the numbers."""

    code: str
    text: str


class Action(msgspec.Struct, frozen=True):
    """What to do now. `wait` and `hold` change nothing; a hold needs something to change that time alone does not."""

    verdict: Verdict
    why: tuple[Reason, ...] = ()


def next_action(now: Snapshot) -> Action:
    """What a rollout does next."""
    if bad := tuple(_aborts(now)):
        return Action("abort", bad)
    if holds := tuple(_holds(now)):
        return Action("hold", holds)
    if awaits := tuple(_awaits(now)):
        return Action("wait", awaits)
    if now.stage != "step" or now.step + 1 < len(now.plan.steps):
        return Action("advance", tuple(_passed(now)))
    if now.plan.has_approval and not now.is_approved:
        return Action("hold", (Reason("approval", "everything is proven; a person is to approve the last step"),))
    return Action("promote", tuple(_passed(now)))


def following(plan: Plan, stage: Stage | None, step: int = 0) -> tuple[Stage, int]:
    """The stage (and step) after one; after None the first one. Raises ValueError after the last step."""
    declared: tuple[tuple[Stage, object], ...] = (("replay", plan.replay), ("shadow", plan.shadow))
    stages = [name for name, options in declared if options is not None]
    if stage == "step":
        if step + 1 >= len(plan.steps):
            raise ValueError("there is no step after the last one")
        return "step", step + 1
    left = stages[stages.index(stage) + 1 :] if stage is not None else stages
    return (left[0], 0) if left else ("step", 0)


def _aborts(now: Snapshot) -> Iterator[Reason]:
    for reading in now.readings:
        if reading.kind == "hard" and reading.state == "alarm":
            yield Reason(reading.name, f"{_alarm(reading)}: more than the champion, whatever was looked at when")
    found, bounds = now.findings, _bounds(now)
    if found is not None and bounds is not None and found.errors > bounds.max_errors * found.rows:
        text = f"{found.errors:,} of {found.rows:,} rows that the champion answered failed or were refused"
        yield Reason(f"{now.stage}_errors", f"{text}; allowed are {bounds.max_errors:.2%}")


def _holds(now: Snapshot) -> Iterator[Reason]:
    if now.held_by is not None:
        yield Reason("held", f"held by {now.held_by}")
    if now.unfit is not None:
        yield Reason("unfit", f"this machine cannot serve the canary: {now.unfit}")
    for reading in now.readings:
        if reading.kind == "soft" and reading.state == "alarm" and reading.name not in now.accepted:
            yield Reason(reading.name, f"{_alarm(reading)}. `resume` accepts it, `abort` ends the rollout")
    found, bounds = now.findings, _bounds(now)
    if found is not None and bounds is not None:
        if found.failure is not None:
            yield Reason(f"{now.stage}_failed", found.failure)
        elif found.flips > bounds.max_flips * found.rows:
            text = f"{found.flips:,} of {found.rows:,} rows were decided otherwise; allowed are {bounds.max_flips:.2%}"
            if f"{now.stage}_flips" not in now.accepted:
                yield Reason(f"{now.stage}_flips", text)
    if now.stage == "step" and not _is_last_full(now):
        if not now.canary_n and now.stage_s - now.behind_s >= now.plan.step_s and now.is_applied:
            yield Reason("no_evidence", "no evidence: not one request of this step reached the canary")
        elif now.canary_n >= now.plan.step_requests:
            for text in _needs(now):
                yield Reason("inconclusive", f"inconclusive after {now.canary_n:,} requests: {text}")


def _awaits(now: Snapshot) -> Iterator[Reason]:
    if now.stage != "step":
        yield from _awaits_findings(now)
        return
    if not now.is_applied:
        yield Reason("applying", "the workers are taking over the weights")
    if now.stage_s < now.plan.step_s:
        yield Reason("time", f"{now.plan.step_s - now.stage_s:.0f} s of the step's {now.plan.step_s:.0f} s are left")
    elif now.stage_s - now.behind_s < now.plan.step_s:  # what is not read speaks neither for it nor against it
        yield Reason("behind", f"the log is read up to {now.behind_s:.0f} s ago; the step's whole time is to be read")
    if _is_last_full(now):
        return
    if not now.canary_n:
        yield Reason("no_evidence", "no request of this step has reached the canary yet")
    for text in _needs(now):
        yield Reason("unproven", text)


def _awaits_findings(now: Snapshot) -> Iterator[Reason]:
    found = now.findings
    if isinstance(now.plan.shadow, ShadowOptions) and now.stage == "shadow":
        rows, pairs = 0 if found is None else found.rows, now.plan.shadow.pairs
        if rows < pairs:
            what = "no evidence yet: " if not rows else ""
            text = f"{what}{rows:,} of {pairs:,} pairs with the champion's answers are there{_unscorable(found)}"
            yield Reason("shadow", text)
    elif found is None or not found.is_done:
        yield Reason("replay", f"{0 if found is None else found.rows:,} recorded rows are scored")


def _passed(now: Snapshot) -> Iterator[Reason]:
    found = now.findings
    if now.stage != "step" and found is not None:
        text = f"{found.rows:,} rows: {found.errors:,} errors, {found.flips:,} decided otherwise"
        text = text if found.rows else "no recorded traffic to score: nothing is known from it"
        yield Reason(now.stage, text + _unscorable(found))
    if now.stage == "step":
        yield Reason("requests", f"{now.canary_n:,} requests of this step answered by the canary")
        for reading in now.readings:
            if reading.kind == "hard" and reading.state == "proven":
                yield Reason(reading.name, f"{reading.name}: proven to be no worse")


def _unscorable(found: Findings | None) -> str:
    """Rows of which nothing can be known, in words."""
    left_out = 0 if found is None else found.unscorable
    return f"; {left_out:,} rows cannot be scored (personal, missing or not kept)" if left_out else ""


def _is_last_full(now: Snapshot) -> bool:
    """At 100 percent there is no champion beside it: what is proven was proven before."""
    return now.plan.steps[now.step] >= _FULL and now.step > 0


def _open(now: Snapshot) -> Iterator[Reading]:
    return (reading for reading in now.readings if reading.kind == "hard" and reading.state == "open")


def _bounds(now: Snapshot) -> ReplayOptions | ShadowOptions | None:
    return now.plan.replay if now.stage == "replay" else now.plan.shadow if now.stage == "shadow" else None


def _alarm(reading: Reading) -> str:
    return (
        f"{reading.name}: {reading.canary_events:,} in {reading.canary_n:,} of the canary, "
        f"{reading.champion_events:,} in {reading.champion_n:,} of the champion; E = {reading.e:.3g}, "
        f"limit {reading.limit:.3g}"
    )


def _needs(now: Snapshot) -> Iterator[str]:
    """What evidence is still needed, of all that is not proven."""
    left = list(_open(now))
    if not left:
        return
    names = ", ".join(reading.name for reading in left)
    needed = [reading.needed for reading in left]
    if None in needed:
        yield f"{names}: not proven to be no worse, and at the present rates they never will be"
    else:
        most = max(number for number in needed if number is not None)
        yield f"{names}: not proven yet to be no worse; about {most:,} more requests of the canary at the present rates"
