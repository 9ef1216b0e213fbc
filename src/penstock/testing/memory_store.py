"""Events in memory: an `EventStore` for tests, which keeps to the same contract as the one on a database."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.control.changes import Event
from penstock.control.sql_store import SqlStore
from penstock.control.store import RevisionTaken
from penstock.errors import ControlError, StateUnavailable


class MemoryStore:
    """A list of events that is gone with the process. Thread-safe."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._lock = threading.Lock()

    def since(self, revision: int) -> list[Event]:
        """The events after `revision`, in order."""
        with self._lock:
            return self._events[revision:]

    def append(self, events: Sequence[Event]) -> None:
        """Add events, all or none. Raises RevisionTaken, StateUnavailable where they do not follow, and ControlError
        for what a database could not keep.
        """
        kept = [_kept(event) for event in events]
        with self._lock:
            at = self._events[-1].at if self._events else None
            for revision, event in enumerate(kept, len(self._events) + 1):
                if event.revision < revision:
                    raise RevisionTaken(f"revision {event.revision} is taken: the state is at {len(self._events)}")
                if event.revision > revision or (at is not None and event.at <= at):
                    raise StateUnavailable(f"event {event.revision} does not follow the last one")
                at = event.at
            self._events += kept

    def back_up(self, path: Path) -> None:
        """Write a copy of the events as a SQLite file."""
        with tempfile.TemporaryDirectory() as name, contextlib.closing(SqlStore(None, home=Path(name))) as copy:
            copy.append(self.since(0))
            copy.back_up(path)

    def close(self) -> None:
        """Nothing to let go of."""


def _kept(event: Event) -> Event:
    """The event as it comes back from JSON."""
    try:
        kept = msgspec.json.decode(msgspec.json.encode(event), type=Event)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ControlError(f"this event could not be read back as it is: {event}") from error
    if kept != event or "\0" in f"{event.who.name}{event.model}{event.reason}":
        raise ControlError(f"this event cannot be kept as it is: {event}")
    return kept
