"""Searching the records by SQL: sealed files and live segments as one table, `records`. Home of DuckDB.

What runs is confined: one SELECT, no file but the sealed ones, no extension, no setting, bounded memory and time.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import duckdb
import msgspec
import pyarrow as pa

from penstock.audit.columns import ALL, ENVELOPE_SCHEMA, Detail
from penstock.audit.conditions import Conditions, cursor_of, quoted_name
from penstock.audit.live import PLACE, Allowance, LiveSegments, opened, table_at
from penstock.audit.sealed import SealedFile, Snapshot
from penstock.audit.typed_lists import FEATURE, PREDICTION
from penstock.errors import QueryRefused

_LIVE: Final = "live"
_NEWEST: Final = "ORDER BY request_id DESC, run DESC, seq DESC"
_COUNT: Final = re.compile(r"count\s*\(\s*\*\s*\)", re.IGNORECASE)
_NAMES_DECIDE: Final = re.compile(r"\*|\b(columns|describe|show|summarize)\b", re.IGNORECASE)
_TEXTS: Final = re.compile(r"\b(envelope|payload)\b")
_TYPED: Final = re.compile(f"{FEATURE}|{PREDICTION}", re.IGNORECASE)
_TYPED_NAMES: Final = re.compile(rf"\b(?:{FEATURE}|{PREDICTION})\w+", re.IGNORECASE)
_CONFIG: Final[dict[str, Any]] = {
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "max_temp_directory_size": "0KiB",
    "python_enable_replacements": False,
    "temp_directory": "",
}

Choose: TypeAlias = Callable[[dict[str, str]], str]
"""From the columns that there are, with their types, to what is selected of them."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one query may take, and how much it may answer: `memory_bytes` is DuckDB's own, `live_bytes` what it may
    hold of live records; `time_s` covers the reading of these, too.
    """

    memory_bytes: int = 512 << 20
    live_bytes: int = 512 << 20
    time_s: float = 60.0
    threads: int = 2
    rows: int = 10_000


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a query gave: a table, and whether there is more than it was to have; of a page, where it ended if so."""

    table: Any
    has_more: bool
    next: str | None = None


class Records:
    """The records below an audit directory, as of each call. Reads only; thread-safe. Kept, it remembers some of what
    it decoded of live segments.
    """

    def __init__(self, directory: Path, bounds: Bounds | None = None) -> None:
        self._directory = directory
        self._bounds = bounds if bounds is not None else Bounds()
        self._live = LiveSegments(directory)

    def page(self, conditions: Conditions, limit: int) -> Found:
        """The newest `limit` records of which all `conditions` hold, the newest first, untyped. Pages that
        follow each other by `next` have each record once, and miss none that was there at the first.

        Raises QueryRefused and SegmentError.
        """
        with self._asking(conditions) as asking:
            return _page(asking, conditions, limit)

    def sql(self, text: str, limit: int | None = None) -> Found:
        """What one SELECT gives, at most `limit` rows of it. There are two views: `records`, and `predictions` with a
        row for each row that a call asked for. Raises QueryRefused and SegmentError.
        """
        with self._asking(Conditions()) as asking:
            select = asking.select(text)
            asking.show(asking.live(asking.detail(select)))
            return _first(asking.ask(select), limit if limit is not None else self._bounds.rows)

    @contextlib.contextmanager
    def batches(self, conditions: Conditions, choose: Choose, *, by_row: bool = False) -> Iterator[Any]:
        """A reader of Arrow batches of what `choose` selects, given the columns there are, from the records or,
        `by_row`, from `predictions`; for what is larger than memory, in no order, without a limit of time. Raises
        QueryRefused and SegmentError.
        """
        with self._asking(conditions, has_end=False) as asking:
            asking.show(asking.live(Detail(texts=not by_row, typed=by_row or bool(conditions.where))))
            view = "predictions" if by_row else "records"
            types = asking.types(view)
            where, values = conditions.as_sql(types)
            yield asking.ask(f"SELECT {choose(types)} FROM {view} WHERE {where}", values)

    @contextlib.contextmanager
    def _asking(self, conditions: Conditions, *, has_end: bool = True) -> Iterator[_Asking]:
        """A question on a connection of its own, confined."""
        allowance = Allowance(self._bounds.time_s if has_end else threading.TIMEOUT_MAX, self._bounds.live_bytes)
        memory = f"{self._bounds.memory_bytes // 1024}KiB"
        config = {**_CONFIG, "memory_limit": memory, "threads": self._bounds.threads}
        with (
            opened(self._directory) as (taken, files),
            contextlib.closing(duckdb.connect(":memory:", config=config)) as connection,
            _translated(self._bounds, allowance),
            _interrupting(connection, allowance),
        ):
            yield _Asking(connection, taken, conditions, _Live(self._live, files, allowance))


class _Live(msgspec.Struct, frozen=True):
    """The live segments, open, and what may be taken of them."""

    segments: LiveSegments
    files: list[BinaryIO]
    allowance: Allowance


class _Asking:
    """One question: a confined connection, on which the records as of one moment are shown."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, taken: Snapshot, conditions: Conditions, live: _Live
    ) -> None:
        self._connection = connection
        self._conditions = conditions
        self._live = live
        self._directory = taken.directory.absolute()
        self._files = [file for file in taken.files() if conditions.may_be_in(file)]
        for setting in (
            f"allowed_paths = [{self._listed(self._files)}]",
            "TimeZone = 'UTC'",
            "parquet_metadata_cache = true",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")

    def live(self, detail: Detail) -> pa.Table:
        """The live records that may be asked for."""
        live = self._live
        return live.segments.table(live.files, self._conditions, detail, live.allowance)

    def live_at(self, places: list[int]) -> pa.Table:
        """The live records at some places."""
        return table_at(self._live.files, places)

    def source(self, live: pa.Table, span: tuple[str, str] | None = None, *, has_typed: bool = True) -> str:
        """A SELECT of the sealed records (with `span`, of files that may have request ids from one to another) and of
        `live`. Without their typed columns, the schema of one file is that of all, and the others are opened when read.
        """
        self._connection.register(_LIVE, live)
        files = [
            file for file in self._files if span is None or not (file.last_id < span[0] or file.first_id > span[1])
        ]
        read = f"SELECT * FROM read_parquet([{self._listed(files)}], union_by_name = {has_typed})"
        return f"{read if files else ''}{' UNION ALL BY NAME ' if files else ''}SELECT * FROM {_LIVE}"

    def _listed(self, files: list[SealedFile]) -> str:
        return ", ".join("'" + str(self._directory / file.path).replace("'", "''") + "'" for file in files)

    def show(self, live: pa.Table) -> None:
        """Make the views, with `live` for the live records."""
        parts = "".join(f", payload ->> '$.{name}' AS {name}" for name in ("input", "raw", "outputs", "violations"))
        connection = self._connection
        connection.execute(
            f"CREATE OR REPLACE VIEW records AS SELECT * EXCLUDE ({PLACE}){parts} FROM ({self.source(live)})"
        )
        typed = [quoted_name(name) for name in self.types() if name.startswith((FEATURE, PREDICTION))]
        lists = "".join(f", unnest({name}) AS {name}" for name in typed)
        left_out = ", ".join(["rows", "input", "raw", "outputs", "envelope", "payload", "ends_write", *typed])
        connection.execute(
            f"CREATE OR REPLACE VIEW predictions AS SELECT * EXCLUDE ({left_out}), unnest(range(rows)) AS row{lists} "
            "FROM records WHERE rows > 0 AND kind NOT IN ('feedback', 'shadow')"
        )

    def types(self, view: str = "records") -> dict[str, str]:
        """The columns of a view and their types."""
        return {name: kind for name, kind, *_ in self._connection.execute(f"DESCRIBE {view}").fetchall()}

    def ask(self, text: str, values: list[Any] | None = None) -> Any:
        """A reader of the Arrow batches that `text` gives."""
        self._live.allowance.check()
        return self._connection.sql(text, params=values).to_arrow_reader(1_000)

    def select(self, text: str) -> str:
        """`text`, which must be one SELECT; whatever else it were, it would be refused as well. Raises QueryRefused."""
        statements = self._connection.extract_statements(text)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            said = ", ".join(str(statement.type).rpartition(".")[2] for statement in statements) or "nothing"
            raise QueryRefused(f"Expected one SELECT statement, got {said}: the log is only read")
        return str(statements[0].query)

    def detail(self, select: str) -> Detail:
        """What of the live records a SELECT needs: as its plan says on a log without any, which has a typed column that
        nobody names and those that the text does. Where names decide which columns there are, everything.
        """
        if not _NAMES_DECIDE.search(_COUNT.sub("", select)):
            for kind in (pa.float64(), pa.string()):
                self.show(_without_records(select, kind))
                with contextlib.suppress(duckdb.Error):  # the other type then, or the answer will say it
                    plan = self._connection.execute(f"EXPLAIN (FORMAT json) {select}").fetchall()[0][1]
                    return Detail(texts=_TEXTS.search(plan) is not None, typed=_TYPED.search(plan) is not None)
        return ALL


def _without_records(select: str, kind: pa.DataType) -> pa.Table:
    """No records, with the typed columns that `select` seems to name, and one more."""
    names = {FEATURE.casefold(): FEATURE} | {name.casefold(): name for name in _TYPED_NAMES.findall(select)}
    typed = [(name, pa.list_(kind)) for name in names.values()]
    return pa.schema([*ENVELOPE_SCHEMA, *typed, (PLACE, pa.int64())]).empty_table()


def _page(asking: _Asking, conditions: Conditions, limit: int) -> Found:
    """Which ones first, by few columns; then all columns of these, which are near each other."""
    has_typed = bool(conditions.where)
    live, types = asking.live(Detail(texts=False, typed=has_typed)), {}
    if has_typed:
        asking.show(live)
        types = asking.types()
    where, values = conditions.as_sql(types)
    source = asking.source(live, has_typed=has_typed)
    which = f"SELECT request_id, run, seq, {PLACE} FROM ({source}) WHERE {where} {_NEWEST} LIMIT {int(limit) + 1}"
    found = asking.ask(which, values).read_all().to_pylist()
    page = found[:limit]
    if not page:
        return Found(table=ENVELOPE_SCHEMA.empty_table(), has_more=False)
    ids, runs, seqs = ([one[name] for one in page] for name in ("request_id", "run", "seq"))
    here = asking.live_at([one[PLACE] for one in page if one[PLACE] is not None])
    source = asking.source(here, (ids[-1], ids[0]), has_typed=False)
    columns = ", ".join(map(quoted_name, ENVELOPE_SCHEMA.names))
    these = "request_id BETWEEN ? AND ? AND (run, seq) IN (SELECT unnest(?), unnest(?))"
    table = asking.ask(f"SELECT {columns} FROM ({source}) WHERE {these} {_NEWEST}", [ids[-1], ids[0], runs, seqs])
    following = cursor_of(ids[-1], runs[-1], seqs[-1]) if len(found) > limit else None
    return Found(table=table.read_all(), has_more=following is not None, next=following)


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
def _interrupting(connection: duckdb.DuckDBPyConnection, allowance: Allowance) -> Iterator[None]:
    """End whatever runs on the connection once the time is over, again and again: a statement may begin just then."""
    is_over = threading.Event()

    def interrupt() -> None:
        wait_s = allowance.left_s()
        while not is_over.wait(wait_s):
            connection.interrupt()
            wait_s = 0.1

    clock = threading.Thread(target=interrupt, name="query-clock", daemon=True)
    clock.start()
    try:
        yield
    finally:
        is_over.set()
        clock.join()


@contextlib.contextmanager
def _translated(bounds: Bounds, allowance: Allowance) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException:
        raise allowance.late() from None
    except duckdb.OutOfMemoryException:
        raise QueryRefused(
            f"the query needs more than {bounds.memory_bytes >> 20} MB of memory: ask for a shorter time, or less"
        ) from None
    except duckdb.Error as error:
        raise QueryRefused(f"the query cannot be answered: {error}") from error
