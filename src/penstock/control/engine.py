"""Engines of SQLAlchemy's for the state: how each database is connected to, and how long anybody waits for it."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError

from penstock.errors import MissingExtra, SettingsError

BUSY_S: Final = 5.0
"""How long SQLite waits for another process that writes."""

_SILENT_S: Final = 20.0
_SQLITE: Final = ("journal_mode=WAL", "synchronous=FULL")
_POSTGRESQL: Final = {
    "connect_timeout": 3,  # of each address; then what is there already is found dead within 10 s
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "prepare_threshold": None,  # a pooler between us keeps no prepared statements
    "application_name": "penstock",
}
_LIMITS: Final = text(
    "SELECT set_config('statement_timeout', '10s', true), set_config('lock_timeout', '5s', true), "
    "set_config('idle_in_transaction_session_timeout', '30s', true)"
)


def sqlite_engine(path: Path) -> Engine:
    """For a SQLite file: a log beside it, each commit written through. The option `begins` begins a transaction."""
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def postgresql_engine(where: URL) -> Engine:
    """For PostgreSQL. Raises MissingExtra."""
    try:
        engine = create_engine(
            where, connect_args=_POSTGRESQL, pool_pre_ping=True, isolation_level="READ COMMITTED", pool_size=2
        )
    except ImportError as error:
        raise MissingExtra("psycopg", "postgres", "a state in PostgreSQL (`state.url`)") from error
    event.listen(engine, "begin", _limit)
    return engine


def postgresql_url(url: str) -> URL:
    """The URL of a setting. Raises SettingsError, which shows no more of it than its kind."""
    try:
        given = make_url(url)
    except (ArgumentError, ValueError):
        raise SettingsError("Expected `postgresql://user@host/database` - at `state.url`: that is no URL") from None
    if given.drivername not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise SettingsError(
            f"Expected `postgresql://user@host/database`, got one of `{given.drivername}` - at `state.url`. Leave it "
            "out, and the state is a SQLite file in the home"
        )
    return given.set(drivername="postgresql+psycopg")


def shown(where: URL) -> str:
    """A URL for messages: no password, nor anything else that may be one."""
    plain = URL.create("postgresql", where.username, host=where.host, port=where.port, database=where.database)
    return plain.render_as_string()


def secrets_of(where: URL) -> list[str]:
    """What no message may show."""
    given = [where.password, where.query.get("password")]
    return [secret for secret in given if isinstance(secret, str) and secret]


class Patience:
    """Cuts an engine's connections when a server that holds them says nothing: nobody waits for ever. Thread-safe.

    Its own limits are the server's to keep, and a stopped one keeps none.
    """

    def __init__(self, engine: Engine) -> None:
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        event.listen(engine, "connect", self._note, insert=True)  # before SQLAlchemy asks it anything

    @contextlib.contextmanager
    def lasting(self) -> Iterator[None]:
        """Whoever still waits within this after 20 s gets SQLAlchemy's OperationalError."""
        timer = threading.Timer(_SILENT_S, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _note(self, connection: Any, _: object) -> None:
        with self._lock:
            self._made.add(connection)

    def _cut(self) -> None:
        with self._lock:
            made = tuple(self._made)
        for connection in made:
            # The edge of a thread: a connection that is closed at this moment needs no cutting.
            with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # `_begin` says when a transaction begins, and of which kind
    for pragma in _SQLITE:
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes cannot wait for another writer: so writers begin as such.
    connection.exec_driver_sql(connection.get_execution_options().get("begins", "BEGIN"))


def _limit(connection: Connection) -> None:
    connection.execute(_LIMITS)
