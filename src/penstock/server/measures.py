"""The metrics of the hot path, by the names of `docs/metrics.md`: children are resolved once and kept."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

from penstock.audit import FellBack, Record
from penstock.errors import CallFailure
from penstock.runtime import Version
from penstock.server.call import Call
from penstock.server.failures import is_refusal
from penstock.telemetry import DURATION_BUCKETS_S, ROWS_BUCKETS, Counter, Histogram, Registry

_NO_ARM = ""
_NO_MODEL = ("", "")
_STATUS = {"prediction": "success", "refusal": "rejected", "failure": "error"}
FEEDBACK = "feedback"
"""The protocol of feedback, in records."""

_FED = {"refusal": "refused", "failure": "failed"}
_FEEDBACK_HELP = "Statements of feedback that were recorded; calls of it that were refused, or failed."


_Key = tuple[tuple[str, str], str, str, str]
"""A model and its version, the arm, the protocol, and the code of the outcome."""


class _Meter(NamedTuple):
    requests: Counter
    timers: tuple[Histogram, Histogram] | None  # total and queue, of answers


class Measures:
    """Counts calls. Used on the event loop; costs a few dictionary look-ups a call."""

    def __init__(self, registry: Registry) -> None:
        by_call = ("model", "version", "arm", "protocol", "status", "code")
        self.registry = registry
        self._requests = registry.counter("model_requests_total", "Calls for a prediction, by outcome.", by_call)
        self._seconds = registry.histogram(
            "model_request_duration_seconds",
            "Time of answered calls in all and in the queue, and of runs (one run answers the calls of a tick).",
            ("model", "version", "stage"),
            buckets=DURATION_BUCKETS_S,
        )
        self._batch_rows = registry.histogram(
            "model_batch_rows", "Rows of a run.", ("model", "version"),
            buckets=ROWS_BUCKETS,
        )  # fmt: skip
        self._load_seconds = registry.peak(
            "model_load_duration_seconds", "Time to verify, load and prove a version.", ("model", "version")
        )
        self._load_failures = registry.counter(
            "model_load_failures_total", "Versions that could not be loaded.", ("model", "version")
        )
        self._fallbacks = registry.counter(
            "penstock_fallback_answers_total", "Calls that a fallback answered.", ("model", "version", "kind")
        )
        self._feedback = registry.counter("penstock_feedback_total", _FEEDBACK_HELP, ("outcome",))
        self._meters: dict[_Key, _Meter] = {}
        self._timers: dict[
            tuple[str, str], tuple[Histogram, Histogram, Histogram, Histogram]
        ] = {}  # total, queue, run, rows

    def loaded(self, model: Version, took_s: float) -> None:
        """Note how long a version took to load."""
        self._load_seconds.at(model.labels).set(took_s)

    def load_failed(self, name: str, version: int) -> None:
        """Note a version that could not be loaded."""
        self._load_failures.child(model=name, version=str(version)).inc()

    def fell_back(self, name: str, fallback: FellBack) -> None:
        """Note that a declared fallback answered in place of a version of the model `name`."""
        self._fallbacks.child(model=name, version=str(fallback.version), kind=fallback.kind).inc()

    def count(self, call: Call) -> None:
        """Count one finished call."""
        reply, took = call.reply, call.took
        failure, model = reply.failure, reply.model
        labels = _NO_MODEL if model is None else model.labels
        arm = _NO_ARM if call.assigned is None else call.assigned.arm or _NO_ARM
        key = (labels, arm, call.face.name, "ok" if failure is None else failure.code)
        meter = self._meters.get(key) or self._meter(key, failure)
        meter.requests.value += 1
        if meter.timers is not None and took is not None:
            total, queue = meter.timers
            total_s, queue_s = reply.latency_ms / 1e3, took.queue_ms / 1e3
            total.counts[bisect_left(total.buckets, total_s)] += 1  # `observe`, without its two calls for each call
            total.sum += total_s
            queue.counts[bisect_left(queue.buckets, queue_s)] += 1
            queue.sum += queue_s

    def _meter(self, key: _Key, failure: CallFailure | None) -> _Meter:
        labels, arm, protocol, code = key
        status = "success" if failure is None else "rejected" if is_refusal(failure) else "error"
        requests = self._requests.at((*labels, arm, protocol, status, code))
        timers = None if failure is not None else (self._timers.get(labels) or self._timer(labels))[:2]
        meter = self._meters[key] = _Meter(requests, timers)
        return meter

    def recount(self, record: Record) -> None:
        """Count a call of another process by its record; of its run is known too little to count that."""
        labels = _NO_MODEL if record.digest is None or record.model is None else (record.model, str(record.version))
        if record.protocol == FEEDBACK:
            self.fed(_FED.get(record.kind, "recorded"))
            return
        status = _STATUS[record.kind]
        arm = record.arm or _NO_ARM
        self._requests.at((*labels, arm, record.protocol or "", status, record.code)).inc()
        if record.kind == "prediction" and record.batch_rows:
            timers = self._timers.get(labels) or self._timer(labels)
            timers[0].observe(record.total_ms / 1e3)
            timers[1].observe(record.queue_ms / 1e3)

    def fed(self, outcome: str, count: int = 1) -> None:
        """Count statements of feedback, or a call of it that came to nothing."""
        self._feedback.at((outcome,)).inc(count)

    def ran(self, model: Version, rows: int, run_ms: float) -> None:
        """Count one run of a model."""
        timers = self._timers.get(model.labels) or self._timer(model.labels)
        timers[2].observe(run_ms / 1e3)
        timers[3].observe(rows)

    def _timer(self, labels: tuple[str, str]) -> tuple[Histogram, Histogram, Histogram, Histogram]:
        stages = [self._seconds.at((*labels, stage)) for stage in ("total", "queue", "run")]
        timer = (stages[0], stages[1], stages[2], self._batch_rows.at(labels))
        self._timers[labels] = timer
        return timer
