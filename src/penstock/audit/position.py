"""How far a reader of the log has come: a `Position`, which it saves with what it made of the records."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far in one run: all records up to number `seq`, the last of which came `at`.

    `segment` (its path below the audit directory) is the run's number `index`, and `at_bytes` of it are read: a place
    between two writes. Numbers go on over segments and stay when they are sealed, so `seq` alone says what is next.
    """

    segment: str
    index: int
    at_bytes: int
    seq: int
    at: datetime


class Position(msgspec.Struct, frozen=True):
    """A mark for each run that has been read from; of a run that is not named nothing has been. It is small (one mark
    for each life of a worker that still has records) and goes as JSON: `as_json`, `from_json`.
    """

    marks: dict[str, Mark] = {}

    def at(self, run: str, mark: Mark) -> Position:
        """The same, but for one run."""
        return Position({**self.marks, run: mark})

    def as_json(self) -> bytes:
        """The position as text to keep."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> Position:
        """The position that was kept as `text`. Raises msgspec.DecodeError."""
        return msgspec.json.decode(text, type=cls)
