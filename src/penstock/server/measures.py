"""The metrics of the hot path, by the names of `docs/metrics.md`: children are resolved once and kept."""

from __future__ import annotations

from penstock.runtime import Model, Scored
from penstock.server.call import Call, Reply
from penstock.server.failures import is_refusal
from penstock.telemetry import DURATION_BUCKETS_S, ROWS_BUCKETS, Counter, Histogram, Registry

_NO_ARM = ""


class Measures:
    """Counts calls. Used on the event loop; costs a few dictionary look-ups a call."""

    def __init__(self, registry: Registry) -> None:
        by_call = ("model", "version", "arm", "protocol", "status", "code")
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
        self._loaded = registry.gauge("model_loaded", "1 for every version in memory.", ("model", "version"))
        self._load_seconds = registry.gauge(
            "model_load_duration_seconds", "Time to verify, load and prove a version.", ("model", "version")
        )
        self._counters: dict[tuple[str, str, str, str], Counter] = {}
        self._timers: dict[
            tuple[str, int], tuple[Histogram, Histogram, Histogram, Histogram]
        ] = {}  # total, queue, run, rows

    def loaded(self, model: Model, took_s: float) -> None:
        """Note a loaded version."""
        labels = {"model": model.name, "version": str(model.version)}
        self._loaded.child(**labels).set(1)
        self._load_seconds.child(**labels).set(took_s)

    def count(self, call: Call, reply: Reply, scored: Scored | None) -> None:
        """Count one finished call."""
        code = "ok" if reply.failure is None else reply.failure.code
        model = reply.model
        name, version = ("", "") if model is None else (model.name, str(model.version))
        key = (name, version, call.face.name, code)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._counter(key, reply)
        counter.inc()
        if model is not None and scored is not None and reply.failure is None:
            timers = self._timers.get((model.name, model.version)) or self._timer(model)
            timers[0].observe(reply.latency_ms / 1e3)
            timers[1].observe(scored.queue_ms / 1e3)

    def ran(self, model: Model, rows: int, run_ms: float) -> None:
        """Count one run of a model."""
        timers = self._timers.get((model.name, model.version)) or self._timer(model)
        timers[2].observe(run_ms / 1e3)
        timers[3].observe(rows)

    def _counter(self, key: tuple[str, str, str, str], reply: Reply) -> Counter:
        name, version, protocol, code = key
        status = "success" if reply.failure is None else "rejected" if is_refusal(reply.failure) else "error"
        return self._requests.at((name, version, _NO_ARM, protocol, status, code))

    def _timer(self, model: Model) -> tuple[Histogram, Histogram, Histogram, Histogram]:
        labels = (model.name, str(model.version))
        timer = (
            self._seconds.at((*labels, "total")),
            self._seconds.at((*labels, "queue")),
            self._seconds.at((*labels, "run")),
            self._batch_rows.at(labels),
        )
        self._timers[model.name, model.version] = timer
        return timer
