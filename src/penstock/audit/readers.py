"""Who follows the log, and how far each has come: what sealing asks before it takes a segment away."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.position import Mark, Position
from penstock.audit.segment import parse_header
from penstock.durable import make_directory, write_whole
from penstock.errors import SegmentError

READERS: Final = "readers"
HELD_S: Final = 6 * 3600.0
_LONGEST: Final = 64
_NAME: Final = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{_LONGEST - 1}}}")


class Readers:
    """The readers that are registered below an audit directory, one file each: `<home>/audit/readers/<name>.json`.

    A reader saves its position here after it has saved what it made of the records; one without a state of its own
    may keep it here alone. One process writes each name; any may ask. `clock` gives Unix seconds.
    """

    def __init__(self, audit: Path, *, held_s: float = HELD_S, clock: Callable[[], float] = time.time) -> None:
        """`held_s` is the longest that a segment waits for readers, from its last write on."""
        self._audit = audit
        self._held_s = held_s
        self._clock = clock

    @property
    def names(self) -> list[str]:
        """Who is registered."""
        return sorted(path.stem for path in (self._audit / READERS).glob("*.json"))

    def save(self, name: str, position: Position) -> None:
        """Register `name`, or say how far it is. Raises SegmentError; it is then as it was before."""
        path = self._path(name)
        try:
            make_directory(path.parent)
            write_whole(path, position.as_json(), draft=path.with_suffix(".partial"), mode=0o600)
        except OSError as error:
            raise SegmentError(f"Expected to save the position of {name} to {path}, but: {error.strerror}") from error

    def position(self, name: str) -> Position | None:
        """How far `name` was when it last saved; None for one that is not registered. Raises SegmentError."""
        path = self._path(name)
        try:
            return Position.from_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SegmentError(f"Expected the position of a reader at {path}, but: {error}") from error

    def forget(self, name: str) -> None:
        """Wait for `name` no longer."""
        self._path(name).unlink(missing_ok=True)

    def keep_only(self, kind: str, names: Collection[str]) -> None:
        """Of the readers of a kind (see `reader_name`), wait for no other any longer."""
        for name in self.names:
            if name.startswith(f"{kind}-") and name not in names:
                self.forget(name)

    def has_passed(self, segment: str) -> bool:
        """Whether every registered reader has read all of a segment that no worker writes any more, or it has waited
        for them long enough. `segment` is its path below the audit directory.
        """
        path = self._audit / segment
        try:
            with path.open("rb") as file:
                header = parse_header(file.readline())
                stat = os.fstat(file.fileno())
        except FileNotFoundError:
            return True
        if header is None or stat.st_mtime < self._clock() - self._held_s:
            return True
        for name in self.names:
            try:
                position = self.position(name)
            except SegmentError:  # nobody knows how far that one is: it has its time as well
                return False
            mark = None if position is None else position.marks.get(header.run)
            if position is not None and not _is_behind(mark, header.index, stat.st_size):
                return False
        return True

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"Expected a name of a-z, 0-9, '.', '_' and '-' for a reader, got {name!r}")
        return self._audit / READERS / f"{name}.json"


def reader_name(kind: str, of: str) -> str:
    """Under which name a reader of that kind is registered; `of` may be longer than a name."""
    name = f"{kind}-{of}"
    return name if len(name) <= _LONGEST else f"{kind}-{hashlib.sha256(of.encode()).hexdigest()[:32]}"


def _is_behind(mark: Mark | None, index: int, size_bytes: int) -> bool:
    """Whether the segment lies behind the mark."""
    return mark is not None and (mark.index > index or (mark.index == index and mark.at_bytes >= size_bytes))
