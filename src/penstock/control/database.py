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

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from penstock.control.engine import (
    BUSY_S,
    Patience,
    postgresql_engine,
    postgresql_url,
    secrets_of,
    shown,
    sqlite_engine,
)
from penstock.control.file_system import require_local
from penstock.control.upgrade import is_up_to_date, upgrade, version_of
from penstock.errors import StateUnavailable

STATE_FILE: Final = "state.db"


class Database:
    """Connections to one state. Thread-safe; `path` is SQLite's file, None of PostgreSQL."""

    def __init__(self, url: str | None, *, home: Path) -> None:
        """Connects to nothing. Raises SettingsError for another kind of URL, and MissingExtra."""
        self.path: Path | None = None
        self._secrets: list[str] = []
        if url is None:
            self.path = home / STATE_FILE
            self.name = str(self.path)
            self._reader = sqlite_engine(self.path)
        else:
            where = postgresql_url(url)
            self.name, self._secrets = shown(where), secrets_of(where)
            self._reader = postgresql_engine(where)
            self._patience = Patience(self._reader)
        self._writer = self._reader.execution_options(begins="BEGIN IMMEDIATE")
        self._version: str | None = None
        self._file: tuple[int, int] | None = None
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
            if self._file != self._identity():
                self._reader.dispose()  # another file was put in place: what is open is no longer the state
                self._version = None
            if self._version is None:
                self._version = self._prepared()
                self._file = self._identity()
            return self._version

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = None if self.path is None else self.path.stat()
        except FileNotFoundError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)

    def _prepared(self) -> str | None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            require_local(self.path.parent)
            self.path.touch(mode=0o600)  # as its log will be: who did what, and why, is nobody else's
        with self._reader.begin() as connection:
            if self.path is not None:
                self._require_sound(connection)
            if is_up_to_date(connection):
                return version_of(connection)
        with self._writer.begin() as connection:
            upgrade(connection)
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
            with contextlib.nullcontext() if self.path is not None else self._patience.lasting():
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
            return f"the state {self.name} was held by another process for {BUSY_S:.0f} s ({said}): nothing was changed"
        return f"the state {self.name} cannot be used: {said}"
