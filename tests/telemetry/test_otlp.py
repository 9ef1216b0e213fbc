"""The exporter of spans: what it has no room for, and what it says when it is not installed."""

from __future__ import annotations

import sys
import time

import pytest

from penstock.errors import MissingExtra
from penstock.telemetry import CallSpans, Counter, Family, Part, Registry, open_spans

NOBODY = "http://127.0.0.1:9"


def test_what_has_no_room_is_dropped_and_counted() -> None:
    """Of more spans than may wait for a collector that does not answer the rest is dropped, whole calls at a time."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs penstock[otel]")
    registry = Registry()
    spans = open_spans(NOBODY, worker=0, registry=registry)
    now_ns = time.time_ns()
    call = CallSpans("POST /predict", now_ns, now_ns + 9, {"penstock.rows": 1}, (Part("record", now_ns, now_ns + 9),))
    for _ in range(4000):
        if spans.has_room(2):
            spans.take(call)
    outcomes: Family[Counter] = registry.counter("penstock_spans_total", "", ("outcome",))
    dropped = outcomes.child(outcome="dropped").value
    assert 0 == dropped % 2
    assert 8000 - 4096 - outcomes.child(outcome="failed").value <= dropped <= 8000 - 4096
    spans.close()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the start says which setting asked for it and what to install."""
    monkeypatch.delitem(sys.modules, "penstock.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtra, match=r"telemetry.otlp_endpoint.*penstock\[otel\]"):
        open_spans(NOBODY, worker=0, registry=Registry())
