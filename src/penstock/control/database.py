"""The way to the state database: SQLite in the home, or PostgreSQL. Connected to when it is needed, and again after it
was away; its tables are brought up to date at first use; whatever goes wrong is a StateUnavailable without a password.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from penstock.control.file_system import require_local
from penstock.control.upgrade import is_up_to_date, upgrade, version_of
from penstock.errors import MissingExtra, SettingsError, StateUnavailable

STATE_FILE: Final = "state.db"

_BUSY_S: Final = 5.0
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


class Database:
    """Connections to one state. Thread-safe; `path` is SQLite's file, None of PostgreSQL."""

    def __init__(self, url: str | None, *, home: Path) -> None:
        """Connects to nothing. Raises SettingsError for another kind of URL, and MissingExtra."""
        self.path = home / STATE_FILE if url is None else None
        where = URL.create("sqlite", database=str(self.path)) if url is None else _postgresql(url)
        secrets = [where.password, where.query.get("password")]
        self._secrets = [secret for secret in secrets if isinstance(secret, str) and secret]
        self.name = str(self.path) if url is None else _shown(where)
        self._reader = _engine(where)
        self._writer = self._reader.execution_options(begins="BEGIN IMMEDIATE")
        self._version: str | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads: of one moment within each statement. Raises StateUnavailable."""
        with self._translated():
            self._make_ready()
            with self._reader.begin() as connection:
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end, durably. Raises StateUnavailable, and SQLAlchemy's IntegrityError."""
        with self._translated():
            version = self._make_ready()
            with self._writer.begin() as connection:
                yield connection
                if version_of(connection) != version:
                    raise StateUnavailable(
                        f"the state {self.name} was upgraded by a newer Penstock: start this one again"
                    )

    def close(self) -> None:
        """Let go of the connections; the next use makes others."""
        self._reader.dispose()

    def _make_ready(self) -> str | None:
        with self._lock:
            if self._version is None:
                self._version = self._prepared()
            return self._version

    def _prepared(self) -> str | None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            require_local(self.path.parent)
        with self._reader.begin() as connection:
            if self.path is not None:
                self._require_sound(connection)
            is_ready = is_up_to_date(connection)
        if not is_ready:
            with self._writer.begin() as connection:
                upgrade(connection)
        with self._reader.begin() as connection:
            return version_of(connection)

    def _require_sound(self, connection: Connection) -> None:
        found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise StateUnavailable(self._damaged(" ".join(str(found).split())))

    def _damaged(self, said: str) -> str:
        return f"the state {self.name} is damaged ({said}): stop the server and restore a backup (`penstock restore`)"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            self._version = None  # it may be another one when it is there again
            raise StateUnavailable(self._told(error)) from error

    def _told(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error
        said = " ".join(str(cause).split())[:300]
        for secret in self._secrets:
            said = said.replace(secret, "***")
        kind = str(getattr(cause, "sqlite_errorname", ""))
        if kind.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._damaged(said)
        if kind == "SQLITE_FULL":
            return f"no room for the state {self.name} ({said}): nothing was changed; make room on its disk"
        if kind.startswith("SQLITE_BUSY"):
            return (
                f"the state {self.name} was held by another process for {_BUSY_S:.0f} s ({said}): nothing was changed"
            )
        return f"the state {self.name} cannot be used: {said}"


def _postgresql(url: str) -> URL:
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


def _shown(where: URL) -> str:
    parts = {"host": where.host, "port": where.port, "database": where.database}
    return URL.create("postgresql", username=where.username, **parts).render_as_string()


def _engine(where: URL) -> Engine:
    if where.get_backend_name() == "sqlite":
        engine = create_engine(where, connect_args={"timeout": _BUSY_S})
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine
    try:
        engine = create_engine(
            where, connect_args=_POSTGRESQL, pool_pre_ping=True, isolation_level="READ COMMITTED", pool_size=2
        )
    except ImportError as error:
        raise MissingExtra("psycopg", "postgres", "a state in PostgreSQL (`state.url`)") from error
    event.listen(engine, "begin", _limit)
    return engine


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # `_begin` says when a transaction begins, and of which kind
    for pragma in _SQLITE:
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin(connection: Connection) -> None:
    # A transaction that reads before it writes cannot wait for another writer: so writers begin as such.
    connection.exec_driver_sql(connection.get_execution_options().get("begins", "BEGIN"))


def _limit(connection: Connection) -> None:
    connection.execute(_LIMITS)
