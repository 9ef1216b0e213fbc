"""Searching the records by SQL: sealed files and live segments as one table, `records`. Home of DuckDB.

What runs is confined: one SELECT, no file but the sealed ones, no extension, no setting, bounded memory and time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa

from penstock.audit.columns import FEATURE, PREDICTION, Source, joined, table_of
from penstock.audit.conditions import Conditions, quoted_name
from penstock.audit.sealed import Snapshot, committed_lines, snapshot
from penstock.audit.segment import parse_header
from penstock.errors import QueryRefused, SegmentError

_ATTEMPTS: Final = 5
_LIVE: Final = "live"
_CONFIG: Final[dict[str, Any]] = {
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "max_temp_directory_size": "0KiB",
    "python_enable_replacements": False,
    "temp_directory": "",
}


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one query may take, and how much it may answer; `memory_bytes` is DuckDB's own, without the live records."""

    memory_bytes: int = 512 << 20
    time_s: float = 60.0
    threads: int = 2
    rows: int = 10_000


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a query gave: a table, and whether there is more than it was to have."""

    table: Any
    has_more: bool


class Records:
    """The records below an audit directory, as of each call. Reads only; thread-safe."""

    def __init__(self, directory: Path, bounds: Bounds | None = None) -> None:
        self._directory = directory
        self._bounds = bounds if bounds is not None else Bounds()

    def page(self, conditions: Conditions, limit: int) -> Found:
        """The newest `limit` records of which all `conditions` hold, the newest first, with all columns.

        Raises QueryRefused and SegmentError.
        """
        return self._asked(_page, conditions, limit)

    def types(self, conditions: Conditions) -> dict[str, str]:
        """The columns of `records`, where the conditions may hold, and their types."""
        with self._opened(conditions) as connection:
            return _types(connection)

    def sql(self, text: str, limit: int | None = None) -> Found:
        """What one SELECT gives, at most `limit` rows of it. There are two views: `records`, and `predictions` with a
        row for each row that a call asked for. Raises QueryRefused and SegmentError.
        """
        return self._asked(_only_select(text), Conditions(), limit if limit is not None else self._bounds.rows)

    @contextlib.contextmanager
    def batches(self, conditions: Conditions, select: str = "*", view: str = "records") -> Iterator[Any]:
        """A reader of Arrow batches of `select` from a view, for what is larger than memory, in no order; without a
        limit of time. Raises QueryRefused and SegmentError.
        """
        with self._opened(conditions) as connection:
            where, values = conditions.as_sql(_types(connection))
            text = f"SELECT {select} FROM {view} WHERE {where}"
            with _translated(self._bounds):
                yield connection.sql(text, params=values).to_arrow_reader(10_000)

    def _asked(self, question: Any, conditions: Conditions, limit: int) -> Found:
        with self._opened(conditions) as connection, _translated(self._bounds):
            clock = threading.Timer(self._bounds.time_s, connection.interrupt)
            clock.start()
            try:
                text, values = question(connection, conditions, limit)
                reader = connection.sql(text, params=values).to_arrow_reader(1_000)
                return _first(reader, limit)
            finally:
                clock.cancel()

    @contextlib.contextmanager
    def _opened(self, conditions: Conditions) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own with the views, confined."""
        with contextlib.closing(duckdb.connect(":memory:", config=self._config())) as connection:
            self._fill(connection, conditions)
            yield connection

    def _config(self) -> dict[str, Any]:
        memory = f"{self._bounds.memory_bytes // 1024}KiB"
        return {**_CONFIG, "memory_limit": memory, "threads": self._bounds.threads}

    def _fill(self, connection: duckdb.DuckDBPyConnection, conditions: Conditions) -> None:
        for attempt in range(_ATTEMPTS):
            taken = snapshot(self._directory)
            try:
                live = _live(taken, conditions)
            except FileNotFoundError:  # sealed meanwhile: it is in the index by now
                if attempt == _ATTEMPTS - 1:
                    raise SegmentError(f"{self._directory}: segments vanish faster than they can be read") from None
                continue
            break
        files = [str(taken.directory / file.path) for file in taken.files() if conditions.may_be_in(file)]
        with _translated(self._bounds):
            _make_views(connection, [str(Path(path).absolute()) for path in files], live)


def _page(connection: duckdb.DuckDBPyConnection, conditions: Conditions, limit: int) -> tuple[str, list[Any]]:
    """Which ones first, by few columns; then all columns of these, which are near each other."""
    where, values = conditions.as_sql(_types(connection))
    which = f"SELECT request_id FROM records WHERE {where} ORDER BY request_id DESC LIMIT {int(limit) + 1}"
    ids = [id for (id,) in connection.sql(which, params=values).fetchall()]
    span = f"request_id BETWEEN ? AND ? AND request_id IN (SELECT unnest(?)) AND {where}" if ids else "false"
    given = [ids[-1], ids[0], ids, *values] if ids else []
    return f"SELECT * FROM records WHERE {span} ORDER BY request_id DESC LIMIT {int(limit) + 1}", given


def _only_select(text: str) -> Any:
    """A question that is `text`, which must be one SELECT; whatever else it were, it would be refused as well."""

    def question(connection: duckdb.DuckDBPyConnection, conditions: Conditions, limit: int) -> tuple[str, list[Any]]:
        statements = connection.extract_statements(text)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            said = ", ".join(str(statement.type).rpartition(".")[2] for statement in statements) or "nothing"
            raise QueryRefused(f"Expected one SELECT statement, got {said}: the log is only read")
        return statements[0].query, []

    return question


def _live(taken: Snapshot, conditions: Conditions) -> pa.Table:
    """The records of the live segments that may be asked for."""
    tables = []
    for path in taken.live:
        with path.open("rb") as file:
            header = parse_header(file.readline())
        if header is None:  # cut at birth, or none of ours: `verify` says which
            continue
        lines = (line for line in committed_lines(path) if conditions.may_be(line))
        tables.append(table_of(lines, Source(header.worker, header.run)))
    return joined(tables)


def _make_views(connection: duckdb.DuckDBPyConnection, files: list[str], live: pa.Table) -> None:
    connection.register(_LIVE, live)
    given = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
    sealed = f"SELECT * FROM read_parquet([{given}], union_by_name = true) UNION ALL BY NAME " if files else ""
    connection.execute(f"SET allowed_paths = [{given}]")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    parts = "".join(f", payload ->> '$.{name}' AS {name}" for name in ("input", "raw", "outputs", "violations"))
    connection.execute(f"CREATE VIEW records AS SELECT *{parts} FROM ({sealed}SELECT * FROM {_LIVE})")
    typed = [quoted_name(name) for name in _types(connection) if name.startswith((FEATURE, PREDICTION))]
    lists = "".join(f", unnest({name}) AS {name}" for name in typed)
    left_out = ", ".join(["rows", "input", "raw", "outputs", "envelope", "payload", "ends_write", *typed])
    connection.execute(
        f"CREATE VIEW predictions AS SELECT * EXCLUDE ({left_out}), unnest(range(rows)) AS row{lists} "
        "FROM records WHERE rows > 0 AND kind NOT IN ('feedback', 'shadow')"
    )


def _types(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The columns of `records` and their types."""
    return {name: kind for name, kind, *_ in connection.execute("DESCRIBE records").fetchall()}


def _first(reader: Any, limit: int) -> Found:
    """The first `limit` rows of a reader, and whether there are more."""
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += len(batch)
        if count > limit:
            break
    table = pa.Table.from_batches(batches, reader.schema)
    return Found(table=table.slice(0, limit), has_more=count > limit)


@contextlib.contextmanager
def _translated(bounds: Bounds) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException:
        raise QueryRefused(
            f"the query took longer than {bounds.time_s:.0f} s: ask for a shorter time, or less"
        ) from None
    except duckdb.OutOfMemoryException:
        raise QueryRefused(
            f"the query needs more than {bounds.memory_bytes >> 20} MB of memory: ask for a shorter time, or less"
        ) from None
    except duckdb.Error as error:
        raise QueryRefused(f"the query cannot be answered: {error}") from error
