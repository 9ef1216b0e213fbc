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
    Registry,
    family_text,
)
from penstock.telemetry.process import process_state

__all__ = [
    "CONTENT_TYPE",
    "DURATION_BUCKETS_S",
    "ROWS_BUCKETS",
    "Counter",
    "Family",
    "FamilyState",
    "Gauge",
    "Histogram",
    "Peak",
    "Registry",
    "family_text",
    "process_state",
]
