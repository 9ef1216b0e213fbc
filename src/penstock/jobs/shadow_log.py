"""The records of a shadow, in segments of its own beside the workers', and those that it wrote and has not counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from penstock.audit.commitment import Salts
from penstock.audit.follow import Follower, SealedLines
from penstock.audit.position import Position
from penstock.audit.record import Lines, Record
from penstock.audit.run import Run, Tick

SHADOW_WORKER: Final = 1000
"""The number under which all shadows write; no worker has it (`server.workers` is at most 256)."""


class ShadowLog:
    """Writes records of kind `shadow`: one `write` for each `flush`, as a worker does for each tick. Not thread-safe.

    Raises SegmentError where the log cannot be written: nothing of what was appended is in it then.
    """

    def __init__(
        self,
        audit: Path,
        *,
        segment_bytes: int = 128 << 20,
        segment_s: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._run = Run(audit, worker=SHADOW_WORKER, segment_bytes=segment_bytes, segment_s=segment_s, clock=clock)
        self._salts = Salts()
        self._lines = Lines(self._salts, 1)

    def open(self) -> None:
        """Begin a segment."""
        self._run.open()

    def append(self, record: Record) -> None:
        """Have `record` written by the next flush."""
        self._lines.add(record)

    def flush(self) -> None:
        """Write what was appended, and end a segment that is old."""
        lines = self._lines
        if lines.next == lines.first:
            self._run.turn()
            return
        error = self._run.write(Tick(lines.written, lines.covered, lines.first, lines.next - 1, [], 0.0))
        if error is not None:
            raise error
        self._lines = Lines(self._salts, lines.next)

    def close(self) -> None:
        """Give the segment back."""
        self._run.close(self._lines.next - 1)


class Written:
    """What shadows have written, whichever life of whichever of them. `sealed_lines` as of the follower."""

    def __init__(self, audit: Path, sealed_lines: SealedLines | None = None) -> None:
        workers = range(SHADOW_WORKER, SHADOW_WORKER + 1)
        self._follower = Follower(audit, sealed_lines=sealed_lines, workers=workers)

    def end(self) -> Position:
        """Behind all that is written now. Raises SegmentError."""
        return self._follower.end()

    def after(self, position: Position, model: str, version: int) -> tuple[dict[str, str], float]:
        """What this version has written behind `position`: the code of each call, by request id, and when the last of
        them came (Unix seconds). Raises SegmentError.
        """
        reader = self._follower.reader(position)
        codes, until_s = {}, 0.0
        for batch in iter(reader.read, None):
            for record in batch.records:
                if (record.model, record.version) == (model, version):
                    codes[record.request_id] = record.code
                    until_s = max(until_s, record.at.timestamp())
        return codes, until_s
