"""Sees the finished calls that are worth a word: failures and slow ones as log lines, all of them as spans.

Called after the reply is recorded, with what the hot path knows anyway. Nothing of a row is ever told.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from penstock.errors import CallFailure, InternalFailure, ModelFailed
from penstock.server.call import Call, Reply
from penstock.server.failures import http_status, is_refusal
from penstock.telemetry import CallSpans, Part, SpanSink, Storm, Summary
from penstock.telemetry.log_lines import FIELDS, way_to

_LOG = logging.getLogger("penstock.calls")

# By the protocol's name and what the path names beside the model.
_ROUTES: Final = {
    ("penstock", ""): "/v1/models/{model}/predict",
    ("penstock", "version"): "/v1/models/{model}/versions/{version}/predict",
    ("penstock", "alias"): "/v1/models/{model}/aliases/{alias}/predict",
    ("v2", ""): "/v2/models/{model}/infer",
    ("v2-grpc", ""): "/inference.GRPCInferenceService/ModelInfer",
    ("v2", "version"): "/v2/models/{model}/versions/{version}/infer",
    ("tfserving", ""): "/v1/models/{model}:predict",
    ("tfserving", "version"): "/v1/models/{model}/versions/{version}:predict",
    ("tfserving", "alias"): "/v1/models/{model}/labels/{alias}:predict",
    ("mlflow", ""): "/invocations",
    ("mlflow-csv", ""): "/invocations",
    ("short", ""): "/predict",
    ("short-batch", ""): "/batch_predict",
}

# A call and its recording; with queue and run where it ran.
_SPANS: Final = 2
_SPANS_OF_RUN: Final = 4

Key: TypeAlias = tuple[str, str]
"""Whose events: "churn 3", or nobody's; and what happened: a failure's code, "slow", or a bug's type."""


class Witness:
    """Tells of finished calls. One per worker, on its event loop.

    `slow_ms` is the latency from which a call is slow, 0 for never; `spans` take every call that is sampled, which of
    those without a trace of the caller's is the share `sample`.
    """

    def __init__(
        self,
        *,
        slow_ms: float,
        spans: SpanSink | None = None,
        sample: float = 1.0,
        storm: Storm[Key] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._slow_ms = slow_ms or math.inf
        self._spans = spans
        self._sample = sample
        self._storm = Storm(clock=time.monotonic) if storm is None else storm
        self._chance = chance
        self._timer: asyncio.TimerHandle | None = None

    @property
    def from_ms(self) -> float:
        """The latency from which an answered call has to be shown to `saw`; a failed one always is."""
        return self._slow_ms if self._spans is None else 0.0

    def saw(self, call: Call) -> None:
        """Tell of a finished call what is worth it. Never raises for what a caller sends."""
        spans, reply = self._spans, call.reply
        parts = _SPANS if call.took is None else _SPANS_OF_RUN
        if spans is not None and self._is_sampled(call) and spans.has_room(parts):
            spans.take(_spans_of(call))
        failure = reply.failure
        # A bug has had its line already.
        if failure is not None and not is_refusal(failure) and not isinstance(failure, InternalFailure):
            if self._is_told(reply, failure.code):
                self._tell(logging.ERROR, f"{failure.code}: {_told(failure, reply)}", _fields(call))
        elif reply.latency_ms >= self._slow_ms and self._is_told(reply, "slow"):
            self._tell(logging.WARNING, "slow", _fields(call))

    def fell_back(self, reply: Reply) -> None:
        """Tell that a fallback answers, and why: the caller gets its answer, the operator still wants to know."""
        fallback = reply.fallback
        if fallback is None or reply.model is None:
            return
        name = f"{reply.model.name} {fallback.version}"
        if self._told_or_counted((name, fallback.code), reply.request_id):
            fields = {"request_id": reply.request_id, "model": reply.model.name, "version": fallback.version}
            self._tell(logging.WARNING, f"{fallback.code}: the fallback ({fallback.kind}) answers", fields)

    def bug(self, request_id: str, bug: Exception) -> None:
        """Tell where a bug of ours came from; its message, which may hold values of rows, is left out."""
        if self._told_or_counted(("", type(bug).__name__), request_id):
            _LOG.error(
                "request %s ended in a bug: %s", request_id, way_to(bug), extra={FIELDS: {"request_id": request_id}}
            )

    def close(self) -> None:
        """Tell what is still untold."""
        if self._timer is not None:
            self._timer.cancel()
        self._sum_up(is_end=True)

    def _is_sampled(self, call: Call) -> bool:
        return self._chance() < self._sample if call.trace is None else call.trace.is_sampled

    def _is_told(self, reply: Reply, what: str) -> bool:
        return self._told_or_counted((_name(reply), what), reply.request_id)

    def _told_or_counted(self, key: Key, request_id: str) -> bool:
        is_told = self._storm.is_told(key, request_id)
        if not is_told and self._timer is None:
            self._look_later()
        return is_told

    def _tell(self, level: int, what: str, fields: dict[str, object]) -> None:
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        _LOG.log(level, "%s (%s)", what, words, extra={FIELDS: fields})

    def _look_later(self) -> None:
        due_s = self._storm.due_s
        self._timer = None if due_s is None else asyncio.get_running_loop().call_later(due_s, self._sum_up)

    def _sum_up(self, *, is_end: bool = False) -> None:
        for summary in self._storm.summaries(is_end=is_end):
            _LOG.warning(_summed(summary), extra={FIELDS: {"request_id": summary.last, "untold": summary.untold}})
        if not is_end:
            self._look_later()


def _told(failure: CallFailure, reply: Reply) -> str:
    """What the log says of a failure: what the model's library said, too, unless it could hold personal data."""
    if not isinstance(failure, ModelFailed) or reply.model is None:
        return str(failure)
    has_pii = any(field.pii is not None for field in reply.model.schema.fields)
    return str(failure) if has_pii else failure.whole


def _summed(summary: Summary[Key]) -> str:
    name, what = summary.key
    times = f"{summary.untold:,} more times in the last {summary.window_s:.0f} s"
    return f"{name + ': ' if name else ''}{what} {times}; last request {summary.last}"


def _name(reply: Reply) -> str:
    return "" if reply.model is None else f"{reply.model.name} {reply.model.version}"


def _fields(call: Call) -> dict[str, object]:
    reply, asked, took = call.reply, call.asked, call.took
    fields: dict[str, object] = {"request_id": reply.request_id}
    if call.trace is not None:
        fields["trace_id"] = call.trace.trace_id
    if reply.model is not None:
        fields |= {"model": reply.model.name, "version": reply.model.version}
    if asked is not None:
        fields["rows"] = len(asked.rows)
    if took is not None:
        fields |= {"queue_ms": round(took.queue_ms, 2), "run_ms": round(took.run_ms, 2)}
    return {**fields, "total_ms": round(reply.latency_ms, 2)}


def _spans_of(call: Call) -> CallSpans:
    """The spans of a finished call, out of the times that it noted; it ends now, when it is recorded."""
    reply, took = call.reply, call.took
    end_ns = time.time_ns()
    start_ns = end_ns - (time.monotonic_ns() - call.arrived_ns)
    answered_ns = start_ns + int(reply.latency_ms * 1e6)
    parts = [Part("record", answered_ns, end_ns)]
    if took is not None:
        # The run ended some microseconds before the answer was ready (its encoding): shown as if at that moment.
        run_ns = answered_ns - int(took.run_ms * 1e6)
        parts = [Part("queue", run_ns - int(took.queue_ms * 1e6), run_ns), Part("run", run_ns, answered_ns), *parts]
    failure = reply.failure
    return CallSpans(
        name=f"POST {_route(call) or call.face.name}",
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=_attributes(call),
        parts=tuple(parts),
        trace=call.trace,
        is_error=failure is not None and not is_refusal(failure),
    )


def _attributes(call: Call) -> dict[str, str | int | float | bool]:
    """Names of HTTP as OpenTelemetry's semantic conventions have them; ours begin with `penstock.`."""
    reply, asked, took = call.reply, call.asked, call.took
    failure, model, route = reply.failure, reply.model, _route(call)
    found: dict[str, str | int | float | bool] = {
        "http.request.method": "POST",
        "http.response.status_code": 200 if failure is None else http_status(failure, call.face.name),
        "penstock.request_id": reply.request_id,
        "penstock.protocol": call.face.name,
        "penstock.code": "ok" if failure is None else failure.code,
        "penstock.rows": 0 if asked is None else len(asked.rows),
        "penstock.batch_rows": 0 if took is None else took.batch_rows,
    }
    if route is not None:
        found["http.route"] = route
    if reply.is_cached:
        found["penstock.cached"] = True
    if reply.fallback is not None:
        found |= {"penstock.fallback": reply.fallback.kind, "penstock.fallback_code": reply.fallback.code}
    if call.assigned is not None:
        found |= {"penstock.experiment": call.assigned.experiment, "penstock.arm": call.assigned.arm or ""}
    if model is not None:
        found |= {"penstock.model": model.name, "penstock.version": model.version, "penstock.digest": model.digest}
    return found


def _route(call: Call) -> str | None:
    name, named = call.face.name.removesuffix("-arrow"), "alias" if call.alias else "version" if call.version else ""
    return _ROUTES.get((name, named)) or _ROUTES.get((name, ""))
