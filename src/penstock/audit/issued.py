"""`Issued`: the last number that a run has given to an answered call, where it outlives a `kill -9` of its process.

Only `async` needs it: answers leave before their records are written, so the segments alone do not show what is lost.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec

from penstock.audit.chain import ChainReport
from penstock.errors import SegmentError

ISSUED_SUFFIX = ".issued"
_SIZE_BYTES = 4096
_NUMBERS = struct.Struct("@4Q")


class Issued:
    """A file of one page beside the segments of `run`, mapped into memory: noting a number is one store to memory that
    the kernel keeps when the process dies. It goes when the run ends in order. Not thread-safe.
    """

    def __init__(self, directory: Path, run: str) -> None:
        """Create the file. Raises SegmentError."""
        self._path = directory / f"{run}{ISSUED_SUFFIX}"
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, _SIZE_BYTES)  # a page without room on the disk would be a SIGBUS later
                self._map = mmap.mmap(fd, _SIZE_BYTES)
            finally:
                os.close(fd)
        except OSError as error:
            self._path.unlink(missing_ok=True)
            raise SegmentError(f"Expected to create {self._path}, but: {error.strerror}") from error
        self._numbers = memoryview(self._map).cast("Q")  # stored as a whole, in the machine's order

    def note(self, seq: int) -> None:
        """Numbers up to `seq` are given to calls that are answered."""
        self._numbers[0] = seq

    def drop(self, records: int) -> None:
        """So many records more are dropped before they came to the writing thread."""
        self._numbers[1] += records

    def fail(self, records: int) -> None:
        """The writing thread could not write so many records more."""
        self._numbers[2] += records

    def say(self, records: int) -> None:
        """The segments say by now that so many are missing, in all."""
        self._numbers[3] = records

    def close(self, *, is_settled: bool) -> None:
        """Let go of the file, which goes where what was lost stands in the segment (`is_settled`)."""
        self._numbers.release()
        self._map.close()
        if is_settled:
            self._path.unlink(missing_ok=True)


def read_issued(path: Path) -> tuple[int, int]:
    """The last number in such a file, and how many records were dropped and counted of which no segment tells; zeros
    for one that was cut at its birth. Raises SegmentError.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_NUMBERS.size)
    except OSError as error:
        raise SegmentError(f"Expected to read {path}, but: {error.strerror}") from error
    if len(data) < _NUMBERS.size:
        return 0, 0
    seq, dropped, failed, said = _NUMBERS.unpack(data)
    return seq, max(0, dropped + failed - said)


class Unwritten(msgspec.Struct, frozen=True, kw_only=True):
    """Answered calls of a run whose records are not in its segments: on their way where its process lives (`is_alive`),
    else lost by a kill. `records` is how many; `dropped` more were dropped before, and counted.
    """

    run: str
    records: int
    dropped: int
    is_alive: bool


def unwritten(audit: Path, reports: Iterable[ChainReport]) -> list[Unwritten]:
    """What the runs below `audit` have answered beyond what their segments hold, given the reports of all segments.

    Once recovery has been there the loss stands in the segment itself (`ChainReport.lost`). Raises SegmentError.
    """
    last: dict[str, ChainReport] = {}
    for each in reports:
        if each.header is not None:
            before = last.get(each.header.run)
            if before is None or before.next <= each.next:
                last[each.header.run] = each
    found = []
    for path in sorted(audit.glob(f"worker-*/*{ISSUED_SUFFIX}")):
        report = last.get(path.stem)
        is_alive = report is not None and is_being_written(report.path)
        seq, dropped = read_issued(path)
        missing = seq - (0 if report is None else report.next - 1)
        dropped = min(dropped, max(0, missing))
        if missing > 0:
            found.append(Unwritten(run=path.stem, records=missing - dropped, dropped=dropped, is_alive=is_alive))
    return found


def is_being_written(segment: Path) -> bool:
    """Whether a living process holds `segment`. Raises SegmentError where it cannot be opened."""
    try:
        with segment.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise SegmentError(f"Expected a readable audit segment at {segment}, but: {error.strerror}") from error
    return False
