"""The events in a database, and which of them webhooks have yet to hear of. SQLite and PostgreSQL behave alike."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlalchemy import Row, func, insert, select
from sqlalchemy.exc import IntegrityError

from penstock.control import outbox
from penstock.control.changes import Change, Event, Who
from penstock.control.database import STATE_FILE, Database
from penstock.control.outbox import Delivery
from penstock.control.store import RevisionTaken
from penstock.control.tables import EVENTS, microseconds, moment
from penstock.errors import ControlError, StateUnavailable

_CHANGES: Final = msgspec.json.Decoder(Change)
_PLAIN: Final = re.compile(r"[^\x00\ud800-\udfff]*")  # what both databases keep


class SqlStore:
    """An `EventStore`, and the outbox of webhooks. Thread-safe; of several processes one appends at a time."""

    def __init__(self, url: str | None, *, home: Path) -> None:
        """`url` is PostgreSQL's; None: SQLite in `home`. Connects to nothing. Raises SettingsError and MissingExtra."""
        self._database = Database(url, home=home)

    def since(self, revision: int) -> list[Event]:
        """The events after `revision`, in order. Raises StateUnavailable."""
        wanted = select(EVENTS).where(EVENTS.c.revision > revision).order_by(EVENTS.c.revision)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        events = [_event(row) for row in rows]
        for expected, event in enumerate(events, revision + 1):
            if event.revision != expected:
                raise StateUnavailable(
                    f"the state {self._database.name} is damaged: event {expected} is missing; restore a backup"
                )
        return events

    def append(self, events: Sequence[Event]) -> None:
        """Add events, all or none, durably: on the disk when this returns.

        Raises RevisionTaken; StateUnavailable, after which they may be there if the database went away at that moment;
        ControlError for an event that could not be read back as it is.
        """
        if not events:
            return
        rows = [_row(event) for event in events]
        try:
            with self._database.writing() as connection:
                connection.execute(insert(EVENTS), rows)
        except IntegrityError as error:
            self._refuse(events[0].revision, error)

    def back_up(self, path: Path) -> None:
        """Write a copy of the events, as of one moment, as a SQLite file: under its name when it is whole.

        Raises StateUnavailable.
        """
        try:
            with tempfile.TemporaryDirectory(prefix=".state-", dir=path.parent) as name:
                part = Path(name) / STATE_FILE
                self._copy(part)
                with contextlib.closing(sqlite3.connect(part)) as copy:
                    copy.execute("PRAGMA journal_mode=DELETE").fetchall()  # one file, without a log beside it
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                part.replace(path)
        except (OSError, sqlite3.Error) as error:
            raise StateUnavailable(f"the state could not be copied to {path}: {error}") from error

    def deliveries_due(self, receiver: str, at: datetime, *, lease_s: float = 60.0, limit: int = 100) -> list[Delivery]:
        """Events that `receiver` is to be told of now, in order, each handed out again only after `lease_s`.

        One that was never asked for before hears of what happens from now on. Several controllers may ask. Raises
        StateUnavailable.
        """
        with self._database.writing() as connection:
            outbox.enlist(connection, receiver, at)
            found = outbox.claim(connection, receiver, at, leased_until=at + timedelta(seconds=lease_s), limit=limit)
        return [Delivery(_event(row), receiver, row.attempts + 1) for row in found]

    def delivered(self, revision: int, receiver: str, at: datetime) -> None:
        """`receiver` has taken the event, or is not to be told of it. Raises StateUnavailable."""
        with self._database.writing() as connection:
            outbox.settle(connection, revision, receiver, delivered_at=microseconds(at), last_error=None)

    def failed(self, revision: int, receiver: str, next_at: datetime, why: str) -> None:
        """`receiver` has not taken the event, which is due again at `next_at`. Raises StateUnavailable."""
        with self._database.writing() as connection:
            said = why[:500].replace("\0", " ")
            outbox.settle(connection, revision, receiver, next_at=microseconds(next_at), last_error=said)

    def close(self) -> None:
        """Let go of the connections."""
        self._database.close()

    def _last(self) -> int:
        with self._database.reading() as connection:
            return int(connection.execute(select(func.coalesce(func.max(EVENTS.c.revision), 0))).scalar_one())

    def _refuse(self, first: int, error: IntegrityError) -> None:
        last = self._last()
        if last >= first:
            raise RevisionTaken(f"revision {first} is taken: the state is at {last}") from error
        raise StateUnavailable(
            f"the state {self._database.name} is at revision {last}, and what was to be added does not follow it "
            f"({error.orig}): if it was restored while this process ran, start it again"
        ) from error

    def _copy(self, path: Path) -> None:
        if self._database.path is None:
            with contextlib.closing(SqlStore(None, home=path.parent)) as copy:
                copy.since(0)  # makes the tables, even if there is nothing to copy
                copy.append(self.since(0))
            return
        path.touch(mode=0o600)
        with self._database.reading() as connection, contextlib.closing(sqlite3.connect(path)) as copied:
            source = connection.connection.driver_connection
            if isinstance(source, sqlite3.Connection):
                source.backup(copied)


def _row(event: Event) -> dict[str, Any]:
    row = {
        "revision": event.revision,
        "at": microseconds(event.at),
        "who": event.who.name,
        "is_verified": event.who.is_verified,
        "kind": event.kind,
        "model": event.model,
        "reason": event.reason,
        "change": _encoded(event.change),
    }
    for text in (event.who.name, event.model, event.reason or ""):
        if not _PLAIN.fullmatch(text):
            raise ControlError(f"{text!r} cannot be kept: leave NUL and halves of surrogate pairs out of it")
    return row


def _encoded(change: Change) -> str:
    try:
        encoded = msgspec.json.encode(change)
        is_same = _CHANGES.decode(encoded) == change
    except (msgspec.DecodeError, UnicodeEncodeError):
        is_same = False  # a NaN becomes null, which is no number when it is read
    if not is_same:
        raise ControlError(f"this change could not be read back as it is (is a number not finite?): {change}")
    return encoded.decode()


def _event(row: Row[Any]) -> Event:
    try:
        change = _CHANGES.decode(row.change)
    except msgspec.DecodeError as error:
        raise StateUnavailable(
            f"event {row.revision} of the state, {row.kind!r}, is of a newer Penstock (use that) or damaged: {error}"
        ) from error
    return Event(
        revision=row.revision,
        at=moment(row.at),
        who=Who(row.who, bool(row.is_verified)),
        model=row.model,
        change=change,
        reason=row.reason,
    )
