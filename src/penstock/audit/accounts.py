"""`Accounts`: what became of a log's records, as metrics and, where some are lost, as lines in the server's own log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from penstock.audit.run import Tick
from penstock.telemetry import Recent, Registry

_LOG = logging.getLogger("penstock")
_TELL_EVERY_S = 60.0
_LAG_SPAN_S = 30.0
_LAG_HELP = "The longest that a record waited for its write, of the last half to whole minute."
_UNSYNCED_HELP = "Records that were written, and which the disk did not confirm."


class Accounts:
    """The counts of one log; used on its event loop only. `clock` gives Unix seconds.

    `place` is where the records that are counted end: a segment's path and the bytes in it.
    """

    def __init__(self, registry: Registry, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.recorded = registry.counter("penstock_audit_records_total", "Records written to the audit log.").child()
        self.dropped = registry.counter("penstock_audit_dropped_total", "Records that could not be written.").child()
        self.unsynced = registry.counter("penstock_audit_unsynced_total", _UNSYNCED_HELP).child()
        self._lag = Recent(clock=time.perf_counter, span_s=_LAG_SPAN_S)
        registry.peak("penstock_audit_lag_seconds", _LAG_HELP).adopt(self._lag)
        self._lost_records = 0
        self._tell_s = 0.0
        self.place: tuple[str, int] | None = None
        self.last_failure: Exception | None = None

    def wrote(self, tick: Tick, place: tuple[str, int] | None) -> None:
        """Count the records of `tick`, which end at `place`."""
        self.place = place
        if not tick.records:
            return
        self._lag.ended(tick.began_s)
        if self._lost_records:
            _LOG.warning("audit: records are written again, after %d were lost", self._lost_records)
            self._lost_records = 0
        self.recorded.inc(tick.records)

    def lost(self, tick: Tick, error: Exception) -> None:
        """Count records that are lost, and say so: at the first, then once a minute."""
        self.last_failure = error
        self.dropped.inc(tick.records)
        now_s = self._clock()
        if not self._lost_records or now_s >= self._tell_s:
            self._tell_s = now_s + _TELL_EVERY_S
            count = self._lost_records + tick.records
            _LOG.error("audit: %d records could not be written since the last that was: %s", count, error)
        self._lost_records += tick.records

    def unconfirmed(self, tick: Tick, error: Exception) -> None:
        """Count records that are in the file, and perhaps not on the disk; each failed sync is said."""
        self.last_failure = error
        self.unsynced.inc(tick.records)
        _LOG.error("audit: %d records may not be on the disk: %s", tick.records, error)
