"""The A/A self-test: recorded calls of one version, split at random between two arms that are the same, many times.

What a rollout would have said of each split is a false alarm. All but `read_calls` is pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from math import log
from typing import Final

import msgspec

from penstock.assignment import CHAMPION_ARM, Arm, Experiment, Split, assign, settled, split_of
from penstock.audit.follow import Follower, Reader
from penstock.audit.record import Record
from penstock.jobs.observing import CANARY, observation_of
from penstock.rollout.confidence import LEAST_EACH, MEAN_ALPHA, wilson
from penstock.rollout.evidence import Evidence
from penstock.rollout.guardrails import ALPHA_OF, Guardrail, Watched
from penstock.rollout.observation import Observation
from penstock.rollout.ratio import MISMATCH_ALPHA, log_mismatch
from penstock.rollout.reading import SAMPLE_RATIO

MOST_CALLS: Final = 10_000
_LOOKS: Final = 100
_TOLD_RECORDS: Final = 100_000
_VERSION: Final = 1


class AaCall(msgspec.Struct, frozen=True, gc=False):
    """A recorded call: what decides its arm (its key, or its id), and what it says of either arm."""

    key: str
    canary: Observation
    champion: Observation


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """In how many of the runs something happened, with a 95 % interval (Wilson 1927), beside what is allowed; `by` says
    how often each guardrail or mean was (one of) the first.
    """

    times: int
    runs: int
    rate: float
    lower: float
    upper: float
    allowed: float
    by: dict[str, int]


class AaReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the self-test found: `calls` from `since` to `until`, split `runs` times at `weight` percent and looked at
    after every `look_calls`.

    `aborts`: hard guardrails in alarm; `holds`: soft ones, and sample ratio; `differences`: intervals of means that
    left 0 out, whichever mean it was.
    """

    model: str
    digest: str
    calls: int
    callers: int
    since: datetime
    until: datetime
    weight: float
    runs: int
    look_calls: int
    aborts: Rate
    holds: Rate
    differences: Rate


class Life(msgspec.Struct, frozen=True):
    """What one run came to: the names of what alarmed first, by kind; empty where nothing did."""

    aborts: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()


def read_calls(
    follower: Follower,
    model: str,
    digest: str,
    *,
    since: datetime,
    most: int = MOST_CALLS,
    tell: Callable[[int, int], None] = lambda records, calls: None,
) -> tuple[list[AaCall], list[datetime]]:
    """The first `most` calls since then that this content has answered or failed, and the moments of first and last.

    Calls that named their version or had their arm by a rule are left out; `tell` hears now and then how many records
    were read and calls found. Raises SegmentError.
    """
    calls: list[AaCall] = []
    moments: list[datetime] = []
    for read, (worker, record) in enumerate(_records(follower.reader(follower.since(since))), 1):
        if read % _TOLD_RECORDS == 0:
            tell(read, len(calls))
        if record.model != model or record.digest != digest or record.at < since or record.placed_by is not None:
            continue
        seen = observation_of(record, worker) if record.kind != "feedback" and record.kind != "shadow" else None
        if seen is None:
            continue
        moments = [min([*moments[:1], record.at]), max([*moments[1:], record.at])]
        key = record.key or record.request_id
        calls.append(AaCall(key, *(msgspec.structs.replace(seen, arm=arm) for arm in ("canary", "champion"))))
        if len(calls) >= most:
            break
    calls.sort(key=lambda call: call.champion.at)
    return calls, moments


def _records(reader: Reader) -> Iterator[tuple[str, Record]]:
    while (batch := reader.read()) is not None:
        for record in batch.records:
            yield batch.run, record


def weighed(calls: Iterable[AaCall], weight: float) -> list[AaCall]:
    """The same calls, as if they had been served with `weight` percent on the canary."""
    share = weight / 100
    return [
        AaCall(
            call.key,
            *(
                msgspec.structs.replace(seen, weight=share, champion_weight=1 - share)
                for seen in (call.canary, call.champion)
            ),
        )
        for call in calls
    ]


def least_calls(weight: float) -> int:
    """How many calls it takes until a mean could be told of at this weight: with fewer the test says nothing."""
    return round(LEAST_EACH / min(weight, 100 - weight) * 100)


def live(calls: Sequence[AaCall], weight: float, number: int, look_calls: int) -> Life:
    """Run `number`: the calls split by a salt of its own, and looked at again and again until an abort or the end."""
    split, evidence = _split(weight, number), Evidence.of(Watched())
    holds: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    for place, call in enumerate(calls, 1):
        is_canary = assign(split, call.key).arm == CANARY
        evidence.observe(call.canary if is_canary else call.champion)
        if place % look_calls and place < len(calls):
            continue
        alarms = evidence.alarms()
        holds = holds or tuple(_holding(evidence, alarms))
        differences = differences or tuple(_told_apart(evidence))
        if aborts := tuple(one.name for one in alarms if one.kind == "hard"):
            return Life(aborts, holds, differences)
    return Life((), holds, differences)


def report_of(
    calls: Sequence[AaCall],
    moments: Sequence[datetime],
    *,
    model: str,
    digest: str,
    weight: float,
    runs: int,
    tell: Callable[[int], None] = lambda done: None,
) -> AaReport:
    """All runs; `moments` are those of the first and the last call, `tell` hears how many runs are done."""
    served, look_calls = weighed(calls, weight), max(1, len(calls) // _LOOKS)
    lives = []
    for number in range(runs):
        lives.append(live(served, weight, number, look_calls))
        tell(number + 1)
    means = 2  # `score` and `run_ratio`, each with an alpha of its own
    return AaReport(
        model=model,
        digest=digest,
        calls=len(calls),
        callers=len({call.key for call in calls}),
        since=moments[0],
        until=moments[-1],
        weight=weight,
        runs=runs,
        look_calls=look_calls,
        aborts=rate_of([life.aborts for life in lives], ALPHA_OF["hard"]),
        holds=rate_of([life.holds for life in lives], ALPHA_OF["soft"] + MISMATCH_ALPHA),
        differences=rate_of([life.differences for life in lives], means * MEAN_ALPHA),
    )


def rate_of(found: Sequence[tuple[str, ...]], allowed: float) -> Rate:
    """How often something was found."""
    times, runs = sum(map(bool, found)), len(found)
    lower, upper = wilson(times, runs)
    by = Counter(name for names in found for name in names)
    return Rate(
        times=times,
        runs=runs,
        rate=times / runs if runs else 0.0,
        lower=lower,
        upper=upper,
        allowed=allowed,
        by=dict(by.most_common()),
    )


def _split(weight: float, number: int) -> Split:
    arm = Arm(name=CANARY, version=_VERSION, weight=round(weight * 100))
    return split_of(settled(Experiment(id=f"aa-{number}", arms=(arm,))), {_VERSION}, {CHAMPION_ARM: _VERSION})


def _holding(evidence: Evidence, alarms: Sequence[Guardrail]) -> Iterator[str]:
    yield from (one.name for one in alarms if one.kind == "soft")
    if log_mismatch(evidence.first_requests) >= log(1 / MISMATCH_ALPHA):
        yield SAMPLE_RATIO


def _told_apart(evidence: Evidence) -> Iterator[str]:
    for name, one in evidence.intervals().items():
        if one.lower is not None and one.upper is not None and (one.lower > 0 or one.upper < 0):
            yield name
