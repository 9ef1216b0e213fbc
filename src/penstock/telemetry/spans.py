"""Spans of finished calls: what one holds, and how a place to send them to is opened. Knows no library (`otlp.py`)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias

import msgspec

from penstock.errors import MissingExtra
from penstock.telemetry.metrics import Registry
from penstock.telemetry.traceparent import Trace

_EXPORTER: Final = ("penstock.telemetry.otlp", "OtlpSpans")

Attributes: TypeAlias = Mapping[str, str | int | float | bool]


class Part(msgspec.Struct, frozen=True, gc=False):
    """A stretch of a call that is a span of its own. Times are Unix nanoseconds."""

    name: str
    start_ns: int
    end_ns: int


class CallSpans(msgspec.Struct, frozen=True):
    """A finished call as spans: one of kind SERVER and its parts as children. Times are Unix nanoseconds.

    `trace` is the caller's; None begins one. `is_error` is for failures that are ours.
    """

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes
    parts: tuple[Part, ...]
    trace: Trace | None = None
    is_error: bool = False


class SpanSink(Protocol):
    """Takes finished calls; used on one event loop. No method raises, and none but `close` waits for a collector."""

    def has_room(self, spans: int) -> bool:
        """Whether so many more spans may wait; if not, they are counted as dropped. Asked before they are made."""
        ...

    def take(self, call: CallSpans) -> None:
        """Send the spans of a call, for which there was room, some time."""
        ...

    def close(self) -> None:
        """Send what is left, for a bounded time."""
        ...


def open_spans(endpoint: str, *, worker: int, registry: Registry) -> SpanSink:
    """Send spans to the OTLP collector at `endpoint` (http://host:4318). Raises MissingExtra."""
    module, attribute = _EXPORTER
    try:
        sink: Callable[..., SpanSink] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            error.name or "opentelemetry", "otel", "telemetry.otlp_endpoint (or OTEL_EXPORTER_OTLP_ENDPOINT)"
        ) from error
    return sink(endpoint, worker=worker, registry=registry)
