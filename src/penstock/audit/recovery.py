"""After a crash: cuts torn tails off the segments that dead processes left, and writes down what `async` lost in them.

Runs before a worker's log is opened.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from penstock.audit.chain import Broken, verify
from penstock.audit.commitment import erased
from penstock.audit.issued import ISSUED_SUFFIX, read_issued
from penstock.audit.segment import SUFFIX, Commit, commit_line, held, parse_commit, parse_header, sha256_hex
from penstock.errors import SegmentError

_TAIL_BYTES = 65536
_COMMIT_BYTES = 4096  # more than any commit line has


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """One segment that was not whole: `cut_bytes` were cut off its end, or it is `broken` and was left as it is; or it
    now says that `lost` records of answered calls are missing behind it.
    """

    path: Path
    cut_bytes: int = 0
    broken: Broken | None = None
    lost: int = 0


def recover(directory: Path) -> list[Recovered]:
    """Cut torn tails back to the last whole commit in all segments below `directory` (`<home>/audit`), then say at the
    end of each dead run what it had answered and not written.

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
    for issued in sorted(directory.glob(f"worker-*/*{ISSUED_SUFFIX}")):
        last = _last_segment(issued)
        if last is not None:
            with contextlib.suppress(OSError):  # a full disk, say: the next start tries again, and `unwritten` tells
                lost = _say_lost(issued, last)
                found += [Recovered(path=last, lost=lost)] if lost else []
    return found


def _last_segment(issued: Path) -> Path | None:
    """The last segment of the run of `issued`."""
    found: list[tuple[int, Path]] = []
    for path in issued.parent.glob(f"*{SUFFIX}"):
        with path.open("rb") as file:
            header = parse_header(file.readline())
        if header is not None and header.run == issued.stem:
            found.append((header.index, path))
    return max(found)[1] if found else None


def _say_lost(issued: Path, segment: Path) -> int:
    """Write at the end of `segment` how many records of its run are missing, and remove `issued`; how many they are."""
    with held(segment, os.O_RDWR | os.O_APPEND) as file:
        if file is None or not issued.exists():  # without `issued`, another process was here
            return 0
        commit = _last_commit(file)
        if commit is None:
            return 0
        last, dropped = read_issued(issued)
        missing = max(0, last - commit.last)
        dropped = min(dropped, missing)
        lost = missing - dropped
        if missing:
            prev = sha256_hex(commit_line(commit))
            word = Commit(first=last + 1, last=last, sha256=sha256_hex(b""), prev=prev, dropped=dropped, lost=lost)
            size_bytes = os.fstat(file.fileno()).st_size
            if os.write(file.fileno(), commit_line(word)) != len(commit_line(word)):
                os.ftruncate(file.fileno(), size_bytes)
                return 0
            os.fsync(file.fileno())
        issued.unlink()
        return lost


def _last_commit(file: BinaryIO) -> Commit | None:
    """The commit line that the file ends with."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, size_bytes - _COMMIT_BYTES))
    lines = file.read().splitlines(keepends=True)
    return parse_commit(lines[-1]) if lines else None


def _recover_segment(path: Path) -> Recovered | None:
    """What was done to `path`; None if it is whole, or being written."""
    with held(path) as file:
        if file is None or _ends_whole(file):
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
            covered = [erased(line) or b"" for line in lines[len(lines) - 1 - records : -1]]
            return sha256_hex(b"".join(covered)) == commit.sha256
        if start == 0:
            return False
        tail_bytes *= 8
