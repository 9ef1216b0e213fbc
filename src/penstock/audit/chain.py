"""Reading a segment and proving that it is what was written: header, records and commit lines, each tied to the last.

`verify` reports; `read_records` iterates what is committed. Both walk the file once and hold one write in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from penstock.audit.commitment import erased, is_erased
from penstock.audit.record import Record, read_record
from penstock.audit.segment import FORMAT, Commit, Header, parse_commit, parse_header, sha256_hex
from penstock.errors import SegmentError

_COMMIT_START = b'{"commit":'


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """The first place where a segment is not what was written.

    `line` counts from 1 and `offset_bytes` is where it starts. `first`..`last` are the sequence numbers of the records
    concerned, as far as known: a changed byte that leaves a line readable is seen by the hash of its write, so it is
    narrowed down to the records of that write.
    """

    line: int
    offset_bytes: int
    expected: str
    got: str
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        records = "" if self.first is None else f", records {self.first} to {self.last}"
        return f"Expected {self.expected}, got {self.got} - at line {self.line}{records}"


class ChainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a walk over one segment has found.

    `first`..`last` and `records` speak of whole commits only, the `good_bytes` of the file. `dropped` records are said
    by the log itself to be missing, `lost` ones by the recovery after a kill; the payload of `erased` ones is gone,
    which an entry among the erasures must explain (`unexplained`). `next` is the sequence number that comes next.
    `torn_bytes` at the end are a write that a crash cut short: never acknowledged, no sign of tampering. `head` is the
    hash of the last commit line: the `prev` of the run's next segment. A file of
    length 0 is a segment that a crash cut at birth: it has no `header`.
    """

    path: Path
    header: Header | None
    records: int
    first: int | None
    last: int | None
    dropped: int
    lost: int
    erased: int
    next: int
    head: str | None
    good_bytes: int
    torn_bytes: int
    broken: Broken | None

    @property
    def is_intact(self) -> bool:
        """Whether all that was committed is there, in order and unchanged (a torn tail does not count)."""
        return self.broken is None


class _Seq(msgspec.Struct):
    seq: int


_seq_decoder = msgspec.json.Decoder(_Seq)


def verify(path: Path) -> ChainReport:
    """Check the segment `path` from its first byte to its last. Raises SegmentError if it cannot be read at all.

    Finds any changed, removed, inserted or moved byte, record or write. It cannot find that whole writes are missing
    at the end: for that, compare `head` and `last` with what was noted elsewhere (`docs/audit.md`).
    """
    walk = _Walk(path)
    for _ in walk.writes():
        pass
    return walk.report()


def read_records(path: Path) -> Iterator[Record]:
    """The committed records of the segment `path`, in order; a torn tail is left out.

    Raises SegmentError where the segment is broken, after the records of the whole writes before that place.
    """
    walk = _Walk(path)
    for lines in walk.writes():
        yield from map(read_record, lines)
    if walk.broken is not None:
        raise SegmentError(f"{path.name}: {walk.broken}. Run `penstock audit verify`, and restore the file")


def broken_links(reports: Iterable[ChainReport]) -> list[str]:
    """What is wrong between segments, given the reports of all segments of one or more runs: one sentence for each.

    Finds a segment that was removed, replaced or cut at a commit line before the last of its run.
    """
    known = [report for report in reports if report.header is not None]
    known.sort(key=lambda report: (report.header.run, report.header.index) if report.header else ("", 0))
    problems = []
    for before, after in zip([None, *known], known, strict=False):
        problem = _broken_link(before, after)
        if problem:
            problems.append(f"{after.path.name}: {problem}")
    return problems


def _broken_link(before: ChainReport | None, after: ChainReport) -> str | None:
    header = after.header
    if header is None:
        return None
    if before is None or before.header is None or before.header.run != header.run:
        return None if header.index == 0 else f"Expected segment {header.index - 1} of run {header.run}, it is missing"
    if before.header.index + 1 != header.index:
        return f"Expected segment {header.index - 1} of run {header.run} before it, got {before.header.index}"
    if before.head != header.prev:
        return f"Expected the chain to go on from {header.prev}, but {before.path.name} ends at {before.head}"
    return None


class _Walk:
    """One pass over a segment; stops at the first broken place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: Header | None = None
        self._head: str | None = None
        self._next_seq = 1
        self._pending: list[bytes] = []
        self._covered: list[bytes] = []
        self._erased = 0
        self._pending_first = 0
        self._line = 0
        self._offset_bytes = 0
        self._good_bytes = 0
        self._size_bytes = 0
        self._records = 0
        self._dropped = 0
        self._lost = 0
        self._first: int | None = None
        self.broken: Broken | None = None

    def writes(self) -> Iterator[list[bytes]]:
        """The lines of the records of each whole write."""
        try:
            with self._path.open("rb") as file:
                self._size_bytes = file.seek(0, 2)
                file.seek(0)
                for line in file:
                    yield from self._take(line)
                    if self.broken is not None:
                        return
        except OSError as error:
            raise SegmentError(f"Expected a readable audit segment at {self._path}, but: {error.strerror}") from error

    def report(self) -> ChainReport:
        """What was found so far."""
        return ChainReport(
            path=self._path,
            header=self._header,
            records=self._records,
            first=self._first,
            last=self._next_seq - 1 if self._records else None,
            dropped=self._dropped,
            lost=self._lost,
            erased=self._erased,
            next=self._next_seq,
            head=self._head if self._good_bytes else None,
            good_bytes=self._good_bytes,
            torn_bytes=0 if self.broken else self._size_bytes - self._good_bytes,
            broken=self.broken,
        )

    def _take(self, line: bytes) -> list[list[bytes]]:
        """The writes, one or none, that `line` completes."""
        if not line.endswith(b"\n"):  # the file ends within a line: a torn write
            self._size_bytes = max(self._size_bytes, self._offset_bytes + len(line))
            return []
        self._line += 1
        done: list[list[bytes]] = []
        if self._header is None:
            self._take_header(line)
        elif line.startswith(_COMMIT_START):
            done = self._take_commit(line)
        else:
            self._take_record(line)
        self._offset_bytes += len(line)
        if done:
            self._good_bytes = self._offset_bytes
        return done

    def _take_header(self, line: bytes) -> None:
        self._header = parse_header(line)
        if self._header is None:
            self._break("the header of an audit segment", _shown(line))
            return
        if self._header.format != FORMAT:
            self._break(f"a segment of format {FORMAT}", f"format {self._header.format}, of another Penstock")
            return
        self._head = sha256_hex(line)
        self._next_seq = self._header.first

    def _take_record(self, line: bytes) -> None:
        try:
            seq = _seq_decoder.decode(line).seq
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._break("a record or a commit line", _shown(line), first=self._next_seq + len(self._pending))
            return
        # The first of a write may follow dropped records, which only its commit line tells: looked at there.
        expected = self._pending_first + len(self._pending) if self._pending else seq
        if seq != expected or seq < self._next_seq:
            wanted = max(expected, self._next_seq)
            self._break(f"the record with seq {wanted}", f"seq {seq}", first=wanted)
            return
        if not self._pending:
            self._pending_first = seq
        covered = erased(line)
        if covered is None:
            self._break("the payload that its commitment names", "another", first=seq)
            return
        self._pending.append(line)
        self._covered.append(covered)

    def _take_commit(self, line: bytes) -> list[list[bytes]]:
        commit = parse_commit(line)
        if commit is None:
            self._break("a commit line as it is written", _shown(line), first=self._next_seq)
            return []
        if not self._is_next(commit):
            return []
        lines, self._pending, self._covered = self._pending, [], []
        self._erased += sum(map(is_erased, lines))
        self._head = sha256_hex(line)
        self._next_seq = commit.last + 1
        self._records += len(lines)
        self._dropped += commit.dropped
        self._lost += commit.lost
        if lines and self._first is None:
            self._first = commit.first
        return [lines]

    def _is_next(self, commit: Commit) -> bool:
        """Whether `commit` belongs to the pending records and to the commit before; else it is noted as broken."""
        pending = self._pending
        digest = sha256_hex(b"".join(self._covered))
        missing = commit.dropped + commit.lost
        first = self._pending_first if pending else self._next_seq + missing
        wanted = (self._next_seq + missing, self._next_seq + missing + len(pending) - 1)
        if commit.prev != self._head:
            self._break(f"a commit that follows {self._head}", f"one that follows {commit.prev}", first=self._next_seq)
        elif min(commit.dropped, commit.lost) < 0 or first != wanted[0] or (commit.first, commit.last) != wanted:
            got = f"a commit of {commit.first} to {commit.last} after {len(pending)} records from {first}"
            self._break(f"a commit of the records {wanted[0]} to {wanted[1]}", got, first=self._next_seq)
        elif commit.sha256 != digest:
            what = f"records {commit.first} to {commit.last} with SHA-256 {commit.sha256}"
            self._break(what, digest, first=commit.first, last=commit.last)
        return self.broken is None

    def _break(self, expected: str, got: str, *, first: int | None = None, last: int | None = None) -> None:
        last = first if last is None else last
        self.broken = Broken(
            line=self._line,
            offset_bytes=self._offset_bytes,
            expected=expected,
            got=got,
            first=first,
            last=last,
        )


def _shown(line: bytes) -> str:
    """The beginning of a line for an error message; a record's contents are not in its first bytes."""
    return repr(line[:40]) + ("…" if len(line) > 40 else "")
