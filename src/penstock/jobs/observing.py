"""From the audit log to the evidence of a rollout, or of an arm of an A/B test: each answered call of the experiment is
an `Observation`, and, once it is mature, an `Outcome` with what came true of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import takewhile
from typing import Any, Final

import msgspec

from penstock.assignment import Goal
from penstock.audit.feedback import KIND
from penstock.audit.record import Record
from penstock.rollout.evidence import Evidence
from penstock.rollout.observation import ArmName, Observation, Outcome

CANARY: Final = "canary"
CHAMPION: Final = "champion"
_BUCKETS: Final = 10_000
_HMAC: Final = "hmac:"
_LATE: Final = "deadline_exceeded"
_REFUSED: Final = "output_refused"
_NO_ERROR: Final = frozenset({_LATE, _REFUSED, "overloaded"})
"""Codes of failures that are no `error`: two have a guardrail of their own, and a full queue is the whole server's."""

_MOST_WAITING: Final = 200_000
_EARLY_S: Final = 60.0
"""Workers write logs of their own: feedback may be read before the call that it is about, by no more than this."""


class Waiting(msgspec.Struct, frozen=True):
    """A request that is not mature yet: where it went, and its answer for the first row."""

    outcome: Outcome
    answer: Any
    key: str | None = None


class Observer(msgspec.Struct):
    """Feeds `evidence` with the records of the experiment `rollout`. Saved with the reader's position, as JSON.

    `arm` is the one that stands as the canary; with a `goal`, its metric is one of the evidence's means.
    Without a delay for labels nothing waits. Above 200,000 requests that wait for their labels, every further one is
    counted in `unwatched` and not looked at again. Not thread-safe.

    `said` is what came true of calls that wait, `early` of calls that are not read yet, `by_key` of callers: it counts
    for the calls before it. `read_at`: the time of the latest record, in seconds since 1970.
    """

    rollout: str
    evidence: Evidence
    waiting: dict[str, Waiting] = {}
    said: dict[str, tuple[float, Any]] = {}
    early: dict[str, tuple[float, Any]] = {}
    by_key: dict[str, tuple[float, Any]] = {}
    read_at: float = 0.0
    unwatched: int = 0
    arm: str = CANARY
    goal: Goal | None = None

    def observe(self, records: Iterable[Record], worker: str) -> None:
        """Records of one run of a worker, in their order."""
        delay = self.evidence.watched.label_delay_s
        for record in records:
            self.read_at = max(self.read_at, record.at.timestamp())
            if record.kind == KIND:
                if delay is not None:
                    self._hear(record)
            elif record.experiment == self.rollout and record.arm in (self.arm, CHAMPION):
                seen = observation_of(record, worker, self.arm, self.evidence.watched.value_range)
                if seen is not None:
                    self.evidence.observe(seen)
                    if delay is not None:
                        self._keep(record, seen)

    def mature(self, now: float, *, is_behind: bool = False) -> None:
        """Look at what came true of all requests that are old enough at `now`, in seconds since 1970; where more of the
        log is to be read (`is_behind`), at the time up to which it was.
        """
        delay = self.evidence.watched.label_delay_s
        if delay is None:
            return
        if is_behind:
            now = min(now, self.read_at - _EARLY_S)
        waiting = self.waiting.items()  # in the order of their coming, but for a moment
        due = list(takewhile(lambda one: one[1].outcome.served_at + delay <= now, waiting))
        for request_id, each in due:
            del self.waiting[request_id]
            said = self.said.pop(request_id, None) or self._said_by_key(each)
            self.evidence.observe_label(self._outcome(each, said, delay), now)
        _forget(self.by_key, min(now, self.read_at) - delay)
        _forget(self.early, min(now, self.read_at) - _EARLY_S)

    def _said_by_key(self, each: Waiting) -> tuple[float, Any] | None:
        said = None if each.key is None else self.by_key.get(each.key)
        return said if said is not None and said[0] >= each.outcome.served_at else None

    def _outcome(self, each: Waiting, said: tuple[float, Any] | None, delay: float) -> Outcome:
        goal = self.goal
        served_at = each.outcome.served_at
        if goal is not None and goal.is_missing_zero and (said is None or said[0] > served_at + delay):
            return msgspec.structs.replace(each.outcome, labelled_at=served_at, values={goal.metric: 0.0})
        if said is None:
            return each.outcome
        value = None if goal is None else value_of(goal, said[1])
        return msgspec.structs.replace(
            each.outcome,
            labelled_at=said[0],
            loss=loss_of(each.answer, said[1]),
            values={} if goal is None or value is None else {goal.metric: value},
        )

    def _hear(self, record: Record) -> None:
        if not isinstance(record.input, list) or not record.input or record.input[0].get("index", 0) != 0:
            return
        said = record.at.timestamp(), record.input[0]["actual"]
        if record.key is not None:
            _put(self.by_key, _caller(record), said)
        elif record.request_id in self.waiting:
            self.said[record.request_id] = said
        else:
            _put(self.early, record.request_id, said)

    def _keep(self, record: Record, seen: Observation) -> None:
        if len(self.waiting) >= _MOST_WAITING:
            self.unwatched += 1
            return
        outcome = Outcome(
            arm=seen.arm,
            weight=seen.weight,
            champion_weight=seen.champion_weight,
            key_hash=seen.key_hash,
            placed_by=seen.placed_by,
            served_at=record.at.timestamp(),
        )
        caller = None if record.key is None else _caller(record)
        self.waiting[record.request_id] = Waiting(outcome, _first(record), caller)
        if record.request_id in self.early:
            self.said[record.request_id] = self.early.pop(record.request_id)


def _caller(record: Record) -> str:
    """What a statement by key is kept by: callers are those of a model."""
    return f"{record.model}/{record.key}"


def _put(held: dict[str, tuple[float, Any]], name: str, said: tuple[float, Any]) -> None:
    """Keep a statement as the newest; above 200,000 the oldest goes."""
    held.pop(name, None)
    held[name] = said
    if len(held) > _MOST_WAITING:
        del held[next(iter(held))]


def _forget(held: dict[str, tuple[float, Any]], before: float) -> None:
    """Let go what was said before this: no call that waits, or is to come, can be meant."""
    while held and held[first := next(iter(held))][0] < before:
        del held[first]


def observation_of(
    record: Record, worker: str, canary: str = CANARY, usual: tuple[float, float] | None = None
) -> Observation | None:
    """What a record says of its arm, where the arm `canary` stands as the canary; None where it says nothing: a refusal
    of what the caller sent. `usual` is from where to where a score is usual.
    """
    if record.kind == "refusal" and record.code != _LATE:
        return None
    weights = record.weights or {}
    answer = _first(record)
    arm: ArmName = "canary" if record.arm == canary else "champion"
    fallback = record.fallback
    score = None if fallback is not None else score_of(answer)
    failure = fallback.code if fallback is not None else "" if record.kind == "prediction" else record.code
    return Observation(
        arm=arm,
        weight=weights.get(canary, 0) / _BUCKETS,
        champion_weight=weights.get(CHAMPION, 0) / _BUCKETS,
        key_hash=key_hash_of(record.key),
        placed_by=record.placed_by or "hash",
        at=record.at.timestamp() + record.total_ms / 1e3,
        worker=worker,
        is_error=bool(failure) and failure not in _NO_ERROR,
        is_refused_output=failure == _REFUSED,
        missed_deadline=failure == _LATE,
        batch_rows=0 if failure else record.batch_rows,
        run_ms=record.run_ms,
        score=score,
        out_of_range=usual is not None and score is not None and not usual[0] <= score <= usual[1],
        fallback=fallback is not None,
    )


def key_hash_of(key: str | None) -> int | None:
    """63 bits of a hash of a recorded key that has nothing to do with the one that chose the bucket."""
    if key is None:
        return None
    if key.startswith(_HMAC):
        return int(key[len(_HMAC) : len(_HMAC) + 16], 16) >> 1
    return int.from_bytes(hashlib.sha256(b"evidence|" + key.encode("utf-8", "surrogatepass")).digest()[:8]) >> 1


def score_of(answer: Any) -> float | None:
    """The one number of an answer: a value, or the probability of the last class."""
    if not isinstance(answer, dict):
        return None
    probabilities = answer.get("probabilities")
    found = list(probabilities.values())[-1] if probabilities else answer.get("value")
    return float(found) if isinstance(found, int | float) else None


def value_of(goal: Goal, actual: Any) -> float | None:
    """What came true of a call, as the metric of a test has it; None where it says nothing of it, or is masked."""
    if goal.metric == "conversion":
        if isinstance(actual, str):
            return float(actual == goal.equals)
        is_plain = actual is None or isinstance(actual, bool | int | float)
        return float(msgspec.json.encode(actual).decode() == goal.equals) if is_plain else None
    if goal.metric == "value" and isinstance(actual, int | float) and not isinstance(actual, bool):
        return float(actual)
    return None


def loss_of(answer: Any, actual: Any) -> float | None:
    """How wrong an answer was: one minus the probability of what came true, 0 or 1 of a bare label, the absolute error
    of a value; None where they cannot be compared.
    """
    if not isinstance(answer, dict):
        return None
    probabilities = answer.get("probabilities")
    if probabilities:
        text = actual if isinstance(actual, str) else msgspec.json.encode(actual).decode()
        return 1.0 - float(probabilities[text]) if text in probabilities else None
    value = answer.get("value")
    if isinstance(value, int | float) and isinstance(actual, int | float):
        return abs(float(value) - float(actual))
    return None if answer.get("label") is None else float(answer["label"] != actual)


def _first(record: Record) -> Any:
    outputs = record.outputs
    return outputs[0] if isinstance(outputs, list) and outputs else None
