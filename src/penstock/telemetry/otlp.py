"""Spans by OTLP over HTTP, with OpenTelemetry's own exporter in a thread of its own. Imported by `spans.py` only.

The spans of a call are made after it has ended, with the times that it noted. What the collector does not take in time
is dropped and counted: a call never waits for it.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from penstock.telemetry.metrics import Counter, Family, Registry
from penstock.telemetry.spans import CallSpans
from penstock.telemetry.storm import Storm
from penstock.telemetry.traceparent import Trace

_LOG = logging.getLogger("penstock.spans")
_WAITING_SPANS: Final = 4096
_BATCH_SPANS: Final = 512
_DELAY_MS: Final = 1000
_TIMEOUT_S: Final = 5
_LEAVE_S: Final = 3.0
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_OK: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)


class OtlpSpans:
    """A `SpanSink`. At most 4096 spans wait for the collector; beyond that the spans of a call are dropped."""

    def __init__(self, endpoint: str, *, worker: int, registry: Registry) -> None:
        spans = registry.counter(
            "penstock_spans_total",
            "Spans: exported, failed (not taken by the collector) or dropped (no room).",
            ("outcome",),
        )
        self._dropped = spans.child(outcome="dropped")
        # The library tells of every failed attempt; one line of ours a minute is enough.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
        url = f"{endpoint.rstrip('/')}/v1/traces"
        self._exporter = CountingExporter(OTLPSpanExporter(url, timeout=_TIMEOUT_S), url, spans)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=_WAITING_SPANS,
            schedule_delay_millis=_DELAY_MS,
            max_export_batch_size=_BATCH_SPANS,
        )
        self._taken = 0
        self._resource = _resource(worker)
        self._scope = InstrumentationScope("penstock", importlib.metadata.version("penstock"))

    def has_room(self, spans: int) -> bool:
        """As `SpanSink.has_room`."""
        # Compared with what the exporter is through with, so that the library's own queue never overflows.
        if self._taken + spans - self._exporter.done > _WAITING_SPANS:
            self._dropped.inc(spans)
            return False
        return True

    def take(self, call: CallSpans) -> None:
        """As `SpanSink.take`."""
        self._taken += 1 + len(call.parts)
        parent = None if call.trace is None else _context(call.trace)
        trace_id = random.getrandbits(128) or 1 if parent is None else parent.trace_id
        root = _span_context(trace_id)
        for part in call.parts:
            self._processor.on_end(
                ReadableSpan(
                    part.name,
                    context=_span_context(trace_id),
                    parent=root,
                    resource=self._resource,
                    start_time=part.start_ns,
                    end_time=part.end_ns,
                    instrumentation_scope=self._scope,
                )
            )
        self._processor.on_end(
            ReadableSpan(
                call.name,
                context=root,
                parent=parent,
                resource=self._resource,
                attributes=call.attributes,
                kind=SpanKind.SERVER,
                status=_ERROR if call.is_error else _OK,
                start_time=call.start_ns,
                end_time=call.end_ns,
                instrumentation_scope=self._scope,
            )
        )

    def close(self) -> None:
        """As `SpanSink.close`; 3 s at most, and then what is left is lost."""
        # The library waits 30 s for a collector that does not answer.
        leaving = threading.Thread(target=self._processor.shutdown, name="spans-leave", daemon=True)
        leaving.start()
        leaving.join(_LEAVE_S)
        if leaving.is_alive():
            self._exporter.shutdown()


class CountingExporter(SpanExporter):
    """Exports by another exporter and counts; runs in the processor's thread, which alone writes these numbers."""

    def __init__(self, exporter: SpanExporter, address: str, spans: Family[Counter]) -> None:
        self._exporter = exporter
        self._address = address
        self._exported = spans.child(outcome="exported")
        self._failed = spans.child(outcome="failed")
        self._storm: Storm[str] = Storm(clock=time.monotonic, first=1)
        self.done = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As `SpanExporter.export`."""
        result = self._exporter.export(spans)
        self.done += len(spans)
        if result is SpanExportResult.SUCCESS:
            self._exported.inc(len(spans))
        else:
            self._failed.inc(len(spans))
            if self._storm.is_told("failed", ""):
                _LOG.warning("spans: %s took none of %d; calls go on without", self._address, len(spans))
        for summary in self._storm.summaries():
            _LOG.warning("spans: %s took none %d times in %.0f s", self._address, summary.untold, summary.window_s)
        return result

    def shutdown(self) -> None:
        """As `SpanExporter.shutdown`."""
        self._exporter.shutdown()


def _span_context(trace_id: int) -> SpanContext:
    return SpanContext(trace_id, random.getrandbits(64) or 1, is_remote=False, trace_flags=_SAMPLED)


def _context(trace: Trace) -> SpanContext:
    """The caller's span, of which ours is a child."""
    return SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=_SAMPLED)


def _resource(worker: int) -> Resource:
    """What says whose spans these are; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, read by the library, win."""
    ours: dict[str, str | int] = {
        "service.name": "penstock",
        "service.version": importlib.metadata.version("penstock"),
        "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
        "penstock.worker": worker,
    }
    return Resource(dict(ours)).merge(OTELResourceDetector().detect())
