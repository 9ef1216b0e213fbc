"""Erasing by law: the payloads of some records are taken out of the segments, the chain still verifies.

Each file that holds any of them is written anew beside itself, the event is noted (`Erasures`), then the new file takes
the place of the old one. A crash in between leaves the old file and perhaps an event that came too early: erasing again
does the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from penstock.audit.chain import ChainReport
from penstock.audit.commitment import blanked
from penstock.audit.feedback import KIND
from penstock.audit.pseudonyms import Pseudonyms
from penstock.audit.record import Record, read_record
from penstock.audit.recovery import recover
from penstock.audit.segment import SUFFIX, digest_of, held, parse_commit, parse_header, sha256_hex
from penstock.durable import sync_directory
from penstock.errors import SegmentError

ERASURES_FILE = "erasures.jsonl"
_FRESH_SUFFIX = ".erasing"
_SEQ = b'{"seq":'
_FEEDBACK = b'"kind":"feedback"'


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was written anew: `file` is its path below the audit directory, `before` and `after` the SHA-256 of
    its bytes, `seqs` the numbers of the records whose payload went. `prev` is the SHA-256 of the entry before, `mac`
    the signature with the home's secret over all of that.
    """

    at: datetime
    file: str
    before: str
    after: str
    seqs: tuple[int, ...]
    prev: str
    mac: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """Whose payloads are to go: those of some requests and what feedback says of them, or of some entities by their
    keys in clear. Of `calls` only what feedback says goes: those of the keys, whose feedback may name the call alone.
    """

    request_ids: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()

    def takes(self, record: Record) -> bool:
        """Whether `record` is one of them; `keys` has pseudonyms as well, see `with_pseudonyms`."""
        if record.request_id in self.request_ids or record.key in self.keys:
            return True
        return record.kind == KIND and record.request_id in self.calls

    def with_pseudonyms(self, pseudonyms: Pseudonyms) -> Wanted:
        """The same, for records that have a pseudonym in place of the key, too."""
        return msgspec.structs.replace(self, keys=self.keys | {pseudonyms.of_key(key) for key in self.keys})


class Erasures:
    """The events of erasing of one audit directory: signed, each tied to the one before. Not thread-safe."""

    def __init__(self, audit: Path, pseudonyms: Pseudonyms) -> None:
        self.audit = audit
        self._path = audit / ERASURES_FILE
        self._pseudonyms = pseudonyms

    def entries(self) -> list[Erasure]:
        """All of them, in order; a last line that a crash cut short is left out. Raises SegmentError for one that was
        changed, or was signed with another secret.
        """
        found: list[Erasure] = []
        prev = sha256_hex(b"")
        for line in self._whole_lines():
            try:
                entry = msgspec.json.decode(line, type=Erasure)
            except msgspec.MsgspecError as error:
                raise SegmentError(f"Expected an erasure at line {len(found) + 1} of {self._path}: {error}") from error
            if entry.prev != prev or entry.mac != self._pseudonyms.sign(_signed(entry)):
                got = "one that was changed, removed or signed by others"
                raise SegmentError(f"Expected the next erasure at line {len(found) + 1} of {self._path}, got {got}")
            prev = sha256_hex(line)
            found.append(entry)
        return found

    def note(self, *, file: str, before: str, after: str, seqs: Collection[int], at: datetime) -> None:
        """Append an event, on the disk when this returns. Raises SegmentError."""
        lines = self._whole_lines()
        prev = sha256_hex(lines[-1] if lines else b"")
        entry = Erasure(at=at, file=file, before=before, after=after, seqs=tuple(sorted(seqs)), prev=prev)
        entry = msgspec.structs.replace(entry, mac=self._pseudonyms.sign(_signed(entry)))
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "wb") as out:
                out.truncate(sum(map(len, lines)))  # half a line that a crash left
                out.seek(0, os.SEEK_END)
                out.write(msgspec.json.encode(entry) + b"\n")
                out.flush()
                os.fsync(out.fileno())
            sync_directory(self._path.parent)
        except OSError as error:
            raise SegmentError(f"Expected to write to {self._path}, but: {error.strerror}") from error

    def _whole_lines(self) -> list[bytes]:
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise SegmentError(f"Expected to read {self._path}, but: {error.strerror}") from error
        return [line for line in lines if line.endswith(b"\n")]


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: how many records in how many files. `busy` segments hold such records, too, and are being written:
    erase again once their workers have begun others.
    """

    records: int
    files: int
    busy: tuple[Path, ...]


Step: TypeAlias = Callable[[str], None]


def erase(audit: Path, wanted: Wanted, pseudonyms: Pseudonyms, *, step: Step = lambda what: None) -> Erased:
    """Take the payloads of the `wanted` records out of all segments below `audit` that are written no more.

    What they were cannot be had back. The envelope stays: that there was a call, when, and the pseudonym of its key.
    One process at a time; others wait. `step` is told of each thing before it is done. Raises SegmentError.
    """
    wanted = wanted.with_pseudonyms(pseudonyms)
    events = Erasures(audit, pseudonyms)
    records, files, busy = 0, 0, []
    try:
        with _only_one(audit):
            for stale in audit.glob(f"worker-*/*{_FRESH_SUFFIX}"):
                stale.unlink()
            recover(audit)
            for path in sorted(audit.glob(f"worker-*/*{SUFFIX}")):
                erased = _erase_from(path, wanted, events, step)
                if erased is None:
                    busy.append(path)
                else:
                    records, files = records + erased, files + bool(erased)
    except OSError as error:
        raise SegmentError(f"Expected to erase from the segments in {audit}, but: {error}") from error
    return Erased(records=records, files=files, busy=tuple(busy))


def unexplained(audit: Path, reports: Iterable[ChainReport], pseudonyms: Pseudonyms) -> list[str]:
    """Which segments lack payloads that no event of erasing accounts for: one sentence for each. Raises SegmentError
    where the events themselves were changed.
    """
    last = {entry.file: entry for entry in Erasures(audit, pseudonyms).entries()}
    problems = []
    for report in reports:
        if not report.erased:
            continue
        entry, digest = last.get(str(report.path.relative_to(audit))), _digest_of(report.path)
        if entry is None:
            problems.append(f"{report.path.name}: {report.erased} payloads are gone, and no erasure is noted")
        elif entry.after != digest:
            problems.append(f"{report.path.name}: Expected the file that erasing left, {entry.after}, got {digest}")
    return problems


def found(path: Path, wanted: Wanted) -> Iterator[Record]:
    """The records of `wanted`, which has pseudonyms, in the segment `path`; erased ones without their payload. Raises
    SegmentError and OSError.
    """
    needles = [msgspec.json.encode(text)[1:-1] for text in (*wanted.request_ids, *wanted.keys)]
    needles += [_FEEDBACK] if wanted.calls else []
    with path.open("rb") as file:
        for line in file:
            # Read are only lines that have one of the texts somewhere: ten times as fast where few are wanted.
            if any(needle in line for needle in needles) and _is_record(line):
                record = read_record(line)
                if wanted.takes(record):
                    yield record


def _erase_from(path: Path, wanted: Wanted, events: Erasures, step: Step) -> int | None:
    """How many payloads went from `path`; None where there are some to go and it is being written."""
    seqs = {record.seq for record in found(path, wanted) if record.salt is not None}
    if not seqs:
        return 0
    with held(path, os.O_RDONLY) as old:
        if old is None:
            return None
        fresh = path.with_suffix(_FRESH_SUFFIX)
        step(f"write {fresh.name}")
        before, after = hashlib.sha256(), hashlib.sha256()
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as new:
            for line in old:
                kept = blanked(line) if _seq_of(line) in seqs else line
                before.update(line)
                after.update(kept)
                new.write(kept)
            new.flush()
            os.fsync(new.fileno())
        # Noted first: a payload that is gone without a word would be a broken log.
        step(f"note {path.name}")
        file = path.relative_to(events.audit).as_posix()
        digests = {"before": before.hexdigest(), "after": after.hexdigest()}
        events.note(file=file, **digests, seqs=seqs, at=datetime.now(UTC))
        step(f"replace {path.name}")
        fresh.replace(path)
        sync_directory(path.parent)
    return len(seqs)


def _is_record(line: bytes) -> bool:
    return line.endswith(b"\n") and parse_header(line) is None and parse_commit(line) is None


def _seq_of(line: bytes) -> int | None:
    """The number with which every record's line begins; None for other lines."""
    number = line[len(_SEQ) : line.find(b",")] if line.startswith(_SEQ) else b""
    return int(number) if number.isdigit() else None


def _digest_of(path: Path) -> str:
    try:
        return digest_of(path)
    except OSError as error:
        raise SegmentError(f"Expected a readable audit segment at {path}, but: {error.strerror}") from error


def _signed(entry: Erasure) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(entry, mac=""))


@contextlib.contextmanager
def _only_one(audit: Path) -> Iterator[None]:
    fd = os.open(audit, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
