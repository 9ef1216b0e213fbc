"""Where the events are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from penstock.control.changes import Event


class RevisionTaken(Exception):
    """Another writer has given the revision to an event of its own: read what is new, and decide again."""


class EventStore(Protocol):
    """A list of events that only grows. Thread-safe."""

    def since(self, revision: int) -> list[Event]:
        """The events after `revision`, in order. Raises StateUnavailable."""
        ...

    def append(self, events: Sequence[Event]) -> None:
        """Add events, all or none, durably. Raises RevisionTaken and StateUnavailable."""
        ...

    def back_up(self, path: Path) -> None:
        """Write a copy of the events, as of one moment, as a SQLite file. Raises StateUnavailable."""
        ...

    def close(self) -> None:
        """Let go of the connections."""
        ...
