"""After a crash: cuts torn tails off the segments that dead processes left. Runs before a worker's log is opened."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from penstock.audit.chain import Broken, verify
from penstock.audit.segment import SUFFIX, parse_commit, sha256_hex
from penstock.errors import SegmentError

_TAIL_BYTES = 65536


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """One segment that was not whole: `cut_bytes` were cut off its end, or it is `broken` and was left as it is."""

    path: Path
    cut_bytes: int
    broken: Broken | None = None


def recover(directory: Path) -> list[Recovered]:
    """Cut torn tails back to the last whole commit in all segments below `directory` (`<home>/audit`).

    Gives the segments that were not whole. A segment whose writer lives is locked and not touched. Only a write that a
    crash cut short is cut: its records were never acknowledged. A segment that is broken otherwise is evidence, so it
    is reported and stays. A segment that was torn before its first commit stays as an empty file. Raises SegmentError
    if a file cannot be opened or cut.
    """
    found = []
    for path in sorted(directory.glob(f"worker-*/*{SUFFIX}")):
        try:
            recovered = _recover_segment(path)
        except OSError as error:
            raise SegmentError(f"Expected to recover the audit segment {path}, but: {error.strerror}") from error
        if recovered is not None:
            found.append(recovered)
    return found


def _recover_segment(path: Path) -> Recovered | None:
    """What was done to `path`; None if it is whole, or being written."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if _ends_whole(file):
            return None
        report = verify(path)
        if report.broken is None and report.torn_bytes:
            os.ftruncate(file.fileno(), report.good_bytes)
            os.fsync(file.fileno())
        elif report.broken is None:
            return None
        return Recovered(path=path, cut_bytes=report.torn_bytes, broken=report.broken)


def _ends_whole(file: BinaryIO) -> bool:
    """Whether the file ends with a commit line and the very records that it names.

    So a start after a clean stop reads the ends of the segments only, not all of them.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    tail_bytes = _TAIL_BYTES
    while True:
        start = max(0, size_bytes - tail_bytes)
        file.seek(start)
        lines = file.read(size_bytes - start).splitlines(keepends=True)
        commit = parse_commit(lines[-1]) if lines else None
        if commit is None:
            return False
        records = commit.last - commit.first + 1
        if len(lines) > records + 1:  # the line before them is there, too: the first of them is not cut
            return sha256_hex(b"".join(lines[len(lines) - 1 - records : -1])) == commit.sha256
        if start == 0:
            return False
        tail_bytes *= 8
