"""What the server tells of itself: metrics, log lines, spans. The only home of Prometheus' text and of OpenTelemetry.

None of it is the record of answers, which is the audit log.
"""

from penstock.telemetry.metrics import (
    CONTENT_TYPE,
    DURATION_BUCKETS_S,
    ROWS_BUCKETS,
    Counter,
    Family,
    FamilyState,
    Gauge,
    Histogram,
    Peak,
    Reading,
    Recent,
    Registry,
    family_text,
    lasting,
)
from penstock.telemetry.process import process_state
from penstock.telemetry.spans import CallSpans, Part, SpanSink, open_spans
from penstock.telemetry.storm import Storm, Summary
from penstock.telemetry.traceparent import Trace, trace_of

__all__ = [
    "CONTENT_TYPE",
    "DURATION_BUCKETS_S",
    "ROWS_BUCKETS",
    "CallSpans",
    "Counter",
    "Family",
    "FamilyState",
    "Gauge",
    "Histogram",
    "Part",
    "Peak",
    "Reading",
    "Recent",
    "Registry",
    "SpanSink",
    "Storm",
    "Summary",
    "Trace",
    "family_text",
    "lasting",
    "open_spans",
    "process_state",
    "trace_of",
]
