"""One segment file: its header, its commit lines, and the writer that keeps it whole. `AuditLog` owns the writer.

A segment is a header line, then writes; each write is the lines of some records and one commit line, in one `os.write`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from penstock.durable import sync_directory
from penstock.errors import SegmentError

FORMAT = 2
SUFFIX = ".jsonl"


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line of a segment.

    `run` names one life of one worker; `index` counts its segments from 0; `first` is the sequence number that comes
    next; `prev` is the chain head of the run's segment before.
    """

    format: int
    worker: int
    run: str
    index: int
    started: datetime
    pid: int
    host: str
    penstock: str
    first: int
    prev: str | None = None


class Commit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last line of a write: it holds the records `first`..`last` (none if `last` is `first - 1`).

    `sha256` is of the bytes of these records' lines as they are once erased; `prev` of the commit line before, or of
    the header line (each with its newline). `dropped` records that came just before `first` could not be written;
    `lost` ones went with a process that was killed before it had written them, which recovery found.
    """

    first: int
    last: int
    sha256: str
    prev: str
    dropped: int = 0
    lost: int = 0


class _HeaderLine(msgspec.Struct, frozen=True):
    header: Header


class _CommitLine(msgspec.Struct, frozen=True):
    commit: Commit


_encoder = msgspec.json.Encoder()
_header_decoder = msgspec.json.Decoder(_HeaderLine)
_commit_decoder = msgspec.json.Decoder(_CommitLine)


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def held(path: Path, flags: int = os.O_RDWR) -> Iterator[BinaryIO | None]:
    """The segment at `path`, locked while the block runs, opened with `flags`. None where a process writes it, or where
    it was sealed or rewritten between being opened and locked. Raises OSError.
    """
    with os.fdopen(os.open(path, flags | os.O_NOFOLLOW), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield file if _is_still(path, file) else None


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def header_line(header: Header) -> bytes:
    """The line of `header`, newline included."""
    return _encoder.encode(_HeaderLine(header)) + b"\n"


def commit_line(commit: Commit) -> bytes:
    """The line of `commit`, newline included. There is one spelling of a commit only, and `verify` holds to it."""
    return _encoder.encode(_CommitLine(commit)) + b"\n"


def parse_header(line: bytes) -> Header | None:
    """The header that `line` is, or None."""
    parsed = _parsed(_header_decoder, line)
    return parsed.header if parsed is not None else None


def parse_commit(line: bytes) -> Commit | None:
    """The commit that `line` is, or None."""
    parsed = _parsed(_commit_decoder, line)
    return parsed.commit if parsed is not None and commit_line(parsed.commit) == line else None


def _parsed(decoder: msgspec.json.Decoder[Any], line: bytes) -> Any:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class SegmentWriter:
    """A segment that is being written; it belongs to one process, which holds a lock on the file. Not thread-safe.

    `head` is the hash of the last commit line, `size_bytes` the length of the whole writes. After an error the file is
    as it was before; where even that failed, `is_sound` is False and the writer must not be used again.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Create `path`, which must not exist, with `header`. Raises SegmentError; then there is no such file."""
        self.path = path
        self.is_sound = True
        self.size_bytes = 0
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SegmentError(f"Expected to create the audit segment {path}, but: {error.strerror}") from error
        try:
            # Held until close: `recover` of another process leaves a locked segment alone.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            line = header_line(header)
            self.head = sha256_hex(line)
            # The write of no records: every segment that is whole ends with a commit line.
            commit = self._commit((), header.first, header.first - 1)
            self._write_whole(line + commit, commit)
            os.fsync(self._fd)
            sync_directory(path.parent)
        except (OSError, SegmentError) as error:
            os.close(self._fd)
            path.unlink(missing_ok=True)
            raise SegmentError(f"Expected to begin the audit segment {path}, but: {error}") from error

    def write(
        self, lines: Sequence[bytes], covered: Sequence[bytes], *, first: int, last: int, dropped: int = 0
    ) -> None:
        """Write the records' `lines`, which are in parts, and their commit line in one `os.write`; `covered` is what
        the chain covers of each, up to the closing brace.

        Whole or not at all: raises SegmentError when the system took less, after cutting the file back.
        """
        commit = self._commit(covered, first, last, dropped)
        self._write_whole(b"".join([*lines, commit]), commit)

    def _commit(self, covered: Sequence[bytes], first: int, last: int, dropped: int = 0) -> bytes:
        digest = sha256_hex(b"}\n".join([*covered, b""]))
        return commit_line(Commit(first=first, last=last, sha256=digest, prev=self.head, dropped=dropped))

    def _write_whole(self, data: bytes, commit: bytes) -> None:
        """Write `data`, which ends with `commit`, or leave the file as it is and raise SegmentError."""
        try:
            # A full file size limit arrives as an error or a short write: Python ignores SIGXFSZ from its start.
            written = os.write(self._fd, data)
        except OSError as error:
            self._cut_back()
            raise SegmentError(f"Expected to write {len(data)} bytes to {self.path}, but: {error.strerror}") from error
        if written != len(data):
            self._cut_back()
            raise SegmentError(f"Expected to write {len(data)} bytes to {self.path}, got room for {written} only")
        self.size_bytes += written
        self.head = sha256_hex(commit)

    def _cut_back(self) -> None:
        """Undo a short write, so that the next one follows the last whole one."""
        try:
            os.ftruncate(self._fd, self.size_bytes)
        except OSError:
            self.is_sound = False

    def sync(self) -> None:
        """Bring what is written to the disk; may be called by another thread. Raises SegmentError."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise SegmentError(f"Expected to bring {self.path} to the disk, but: {error.strerror}") from error

    def close(self) -> None:
        """Give the file back: no other write follows."""
        os.close(self._fd)
