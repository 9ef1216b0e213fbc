"""The metrics of the hot path, by the names of `docs/metrics.md`: children are resolved once and kept."""

from __future__ import annotations

from penstock.audit import Record
from penstock.runtime import Scored, Version
from penstock.server.call import Call, Reply
from penstock.server.failures import is_refusal
from penstock.telemetry import DURATION_BUCKETS_S, ROWS_BUCKETS, Counter, Histogram, Registry

_NO_ARM = ""
_NO_MODEL = ("", "")
_STATUS = {"prediction": "success", "refusal": "rejected", "failure": "error"}


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
        self._loaded = registry.gauge(
            "model_loaded", "Workers that serve the version.", ("model", "version")
        )
        self._load_seconds = registry.peak(
            "model_load_duration_seconds", "Time to verify, load and prove a version.", ("model", "version")
        )
        self._load_failures = registry.counter(
            "model_load_failures_total", "Versions that could not be loaded.", ("model", "version")
        )
        self._fallbacks = registry.counter(
            "penstock_fallback_answers_total", "Calls that a fallback answered.", ("model", "version", "kind")
        )
        self._counters: dict[tuple[tuple[str, str], str, str], Counter] = {}
        self._timers: dict[
            tuple[str, str], tuple[Histogram, Histogram, Histogram, Histogram]
        ] = {}  # total, queue, run, rows

    def loaded(self, model: Version, took_s: float) -> None:
        """Note a loaded version."""
        labels = {"model": model.name, "version": str(model.version)}
        self._loaded.child(**labels).set(1)
        self._load_seconds.child(**labels).set(took_s)

    def load_failed(self, name: str, version: int) -> None:
        """Note a version that could not be loaded."""
        self._load_failures.child(model=name, version=str(version)).inc()

    def fell_back(self, model: Version, kind: str) -> None:
        """Note that a declared fallback answered in place of `model`."""
        self._fallbacks.child(model=model.name, version=str(model.version), kind=kind).inc()

    def count(self, call: Call, reply: Reply, scored: Scored | None) -> None:
        """Count one finished call."""
        failure, model = reply.failure, reply.model
        labels = _NO_MODEL if model is None else model.labels
        key = (labels, call.face.name, "ok" if failure is None else failure.code)
        counter = self._counters.get(key)
        if counter is None:
            status = "success" if failure is None else "rejected" if is_refusal(failure) else "error"
            counter = self._requests.at((*labels, _NO_ARM, key[1], status, key[2]))
            self._counters[key] = counter
        counter.inc()
        if failure is None and scored is not None:
            timers = self._timers.get(labels) or self._timer(labels)
            timers[0].observe(reply.latency_ms / 1e3)
            timers[1].observe(scored.queue_ms / 1e3)

    def recount(self, record: Record) -> None:
        """Count a call of another process by its record; of its run is known too little to count that."""
        labels = _NO_MODEL if record.digest is None or record.model is None else (record.model, str(record.version))
        status = _STATUS[record.kind]
        self._requests.at((*labels, _NO_ARM, record.protocol or "", status, record.code)).inc()
        if record.kind == "prediction" and record.batch_rows:
            timers = self._timers.get(labels) or self._timer(labels)
            timers[0].observe(record.total_ms / 1e3)
            timers[1].observe(record.queue_ms / 1e3)

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
