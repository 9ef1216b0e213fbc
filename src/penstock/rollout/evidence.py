"""`Evidence`: all that a rollout knows, from its first request on, in bounded memory. Fed by the log's reader, saved
with the reader's position, read as `Reading`s; what follows from them is decided in `plan.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from math import isfinite
from typing import Final

import msgspec

from penstock.rollout.confidence import MEAN_ALPHA, Difference, Interval, winsorised
from penstock.rollout.counts import Tally, add, count, share_of
from penstock.rollout.guardrails import DECILES, Guardrail, Watched
from penstock.rollout.observation import ArmName, Observation, Outcome
from penstock.rollout.reading import Reading, is_alarm, reading_of, sample_ratio_reading
from penstock.rollout.seen import Callers, OnceEach
from penstock.rollout.slowness import Slowness

_LEARNT_SCORES: Final = 1_000
_MOST_METRICS: Final = 32
_LARGEST_VALUE: Final = 1e100
"""Of a metric, so that its square over a small share is still a number."""
_LARGEST_RUN_RATIO: Final = 10.0
"""Run times are compared in units of the champion's median at the same batch size, winsorised here."""


class Evidence(msgspec.Struct, kw_only=True):
    """What is known of a canary against its champion. Encode it with msgspec (JSON or MessagePack) to save it.

    Numbers of events are exact and by share, so that evidence of parts merges to that of the whole, in any order, but
    for what is learnt on the way (`slow`, deciles without declared edges, means). At most some 5 MB as JSON, whatever
    comes. Not thread-safe.

    - `arms`: requests by arm, those that were placed by rule or hand included; `left_out`: how many these were.
    - `requests`: by share, those that count. `first_requests`: of those, callers' first ones.
    - `mature`: requests whose outcome counted, by share.
    """

    watched: Watched
    arms: dict[ArmName, int] = {}
    left_out: int = 0
    requests: Tally = {}
    first_requests: Tally = {}
    callers: Callers = msgspec.field(default_factory=Callers)
    events: dict[str, OnceEach] = {}
    slowness: Slowness = msgspec.field(default_factory=Slowness)
    means: dict[str, Difference] = {}
    mature: Tally = {}
    mature_callers: Callers = msgspec.field(default_factory=Callers)
    edges: tuple[float, ...] | None = None
    scores: list[float] = []
    first_at: float | None = None
    last_at: float | None = None

    @classmethod
    def of(cls, watched: Watched) -> Evidence:
        """Nothing known yet."""
        return cls(watched=watched, edges=watched.score_edges)

    def observe(self, seen: Observation) -> None:
        """Add one request. What was not placed by the hash is counted and says nothing."""
        self.arms[seen.arm] = self.arms.get(seen.arm, 0) + 1
        self.first_at = seen.at if self.first_at is None else min(self.first_at, seen.at)
        self.last_at = seen.at if self.last_at is None else max(self.last_at, seen.at)
        share = share_of(seen.weight, seen.champion_weight)
        if seen.placed_by != "hash":
            self.left_out += 1
            return
        is_canary = seen.arm == "canary"
        count(self.requests, share, is_canary=is_canary)
        for name in self._events_of(seen):
            self._event(name, share, seen.key_hash, seen.at, is_canary=is_canary)
        usual = self.slowness.usual_ms(seen.batch_rows)
        self.slowness.observe(seen, share)
        if seen.key_hash is not None and not self.callers.is_first(seen.key_hash):
            return
        count(self.first_requests, share, is_canary=is_canary)
        if usual and seen.run_ms > 0:
            self._value("run_ratio", winsorised(seen.run_ms / usual, _LARGEST_RUN_RATIO), share, is_canary)
        if seen.score is not None:
            self._value("score", seen.score, share, is_canary)
        for name, value in seen.values.items():
            self._value(name, value, share, is_canary)

    def observe_label(self, outcome: Outcome, now: float) -> bool:
        """Add what came true of one request; False if it is younger than the declared delay at `now` (seconds since
        1970): bring it again then. A label that came later than the delay counts as none, so that both arms are looked
        at when they are equally old. Bring *every* request once, labelled or not.
        """
        delay = self.watched.label_delay_s
        if delay is None or outcome.served_at + delay > now:
            return False
        share = share_of(outcome.weight, outcome.champion_weight)
        if outcome.placed_by != "hash":
            return True
        is_canary, key_hash = outcome.arm == "canary", outcome.key_hash
        count(self.mature, share, is_canary=is_canary)
        is_first = key_hash is None or self.mature_callers.is_first(key_hash)
        if outcome.labelled_at is None or outcome.labelled_at > outcome.served_at + delay:
            return True
        self._event("labelled", share, key_hash, outcome.served_at, is_canary=is_canary)
        if outcome.loss is not None and outcome.loss > self.watched.label_loss_above:
            self._event("label_loss", share, key_hash, outcome.served_at, is_canary=is_canary)
        if is_first and outcome.loss is not None:
            self._value("loss", outcome.loss, share, is_canary)
        if is_first:
            for name, value in outcome.values.items():
                self._value(name, value, share, is_canary)
        return True

    def merge(self, other: Evidence) -> None:
        """Add what another part of the same rollout has seen. A caller in both counts once for each guardrail, and in
        both for `sample_ratio` and means.
        """
        for arm, times in other.arms.items():
            self.arms[arm] = self.arms.get(arm, 0) + times
        self.left_out += other.left_out
        add(self.requests, other.requests)
        add(self.first_requests, other.first_requests)
        add(self.mature, other.mature)
        self.callers.merge(other.callers)
        self.mature_callers.merge(other.mature_callers)
        for name, events in other.events.items():
            self.events.setdefault(name, OnceEach()).merge(events)
        for name, difference in other.means.items():
            self.means.setdefault(name, Difference()).merge(difference)
        self.slowness.merge(other.slowness)
        self.edges = self.edges or other.edges
        self.scores = [] if self.edges else (self.scores + other.scores)[:_LEARNT_SCORES]
        moments = [at for at in (self.first_at, self.last_at, other.first_at, other.last_at) if at is not None]
        self.first_at, self.last_at = min(moments, default=None), max(moments, default=None)

    def readings(self) -> tuple[Reading, ...]:
        """Each guardrail that is watched, in the order of the table, and `sample_ratio` last."""
        guardrails = self.watched.guardrails
        read = (reading_of(guardrail, guardrails, *self._tallies(guardrail)) for guardrail in guardrails)
        return (*read, sample_ratio_reading(self.first_requests))

    def alarms(self) -> tuple[Guardrail, ...]:
        """Those whose reading would be an alarm, and nothing else of it: a tenth of the time."""
        guardrails = self.watched.guardrails
        return tuple(one for one in guardrails if is_alarm(one, guardrails, self._tallies(one)[2]))

    def intervals(self, alpha: float = MEAN_ALPHA) -> dict[str, Interval]:
        """The differences of means, by metric (`run_ratio`, `score`, `loss`, and the operator's own)."""
        planned = self.watched.planned_requests
        return {name: difference.interval(planned, alpha) for name, difference in sorted(self.means.items())}

    def _tallies(self, guardrail: Guardrail) -> tuple[Tally, Tally, Tally]:
        """Of all that could have the event, all that had it, and those of these that count for E."""
        if guardrail.name == "slow":
            return self.slowness.looks, self.slowness.slow, self.slowness.slow
        is_label = guardrail.name.startswith("label")
        # "labelled_more" and "labelled_less" are one event, seen from either side.
        events = self.events.get("labelled" if guardrail.name.startswith("labelled") else guardrail.name, OnceEach())
        return self.mature if is_label else self.requests, events.every, events.counted

    def _events_of(self, seen: Observation) -> Iterator[str]:
        if seen.is_error:
            yield "error"
        if seen.is_refused_output:
            yield "refused_output"
        if seen.missed_deadline:
            yield "missed_deadline"
        if seen.out_of_range:
            yield "out_of_range"
        if seen.fallback:
            yield "fallback"
        if seen.score is not None and isfinite(seen.score) and not self.watched.is_recalibrated:
            yield from self._decile(seen.score, seen.arm)

    def _decile(self, score: float, arm: ArmName) -> Iterator[str]:
        if self.edges is not None:
            yield DECILES[min(bisect_right(self.edges, score), len(DECILES) - 1)]
        elif arm == "champion":
            self.scores.append(score)
            if len(self.scores) >= _LEARNT_SCORES:
                held = sorted(self.scores)
                self.edges = tuple(held[len(held) * step // 10] for step in range(1, 10))
                self.scores = []

    def _event(self, name: str, share: int, key_hash: int | None, at: float, *, is_canary: bool) -> None:
        self.events.setdefault(name, OnceEach()).observe(share, key_hash, at, is_canary=is_canary)

    def _value(self, name: str, value: float, share: int, is_canary: bool) -> None:
        if isfinite(value) and (name in self.means or len(self.means) < _MOST_METRICS):
            held = winsorised(value, _LARGEST_VALUE)
            self.means.setdefault(name, Difference()).observe(held, share, is_canary=is_canary)
