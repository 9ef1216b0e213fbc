"""Searching the records: what is found, over sealed and live segments alike, and what cannot be done by it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from penstock.audit.conditions import Conditions
from penstock.audit.export import export, write_rows
from penstock.audit.query import Bounds, Records
from penstock.audit.seal import Sealer
from penstock.errors import QueryRefused
from records import AT, answered, odd_ones, write


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with 100 sealed records of a model, and live ones: 20 more, and odd ones of a day later."""
    directory = tmp_path_factory.mktemp("home") / "audit"
    write(directory, map(answered, range(100, 200)))
    Sealer(directory).seal()
    write(directory, map(answered, range(200, 220)), worker=1)
    write(directory, odd_ones(), worker=1)
    return directory


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        (Conditions(), 127),
        (Conditions(request_id="0190-00000150"), 1),
        (Conditions(client_id=("call-210", "hmac:0")), 1),
        (Conditions(key=("customer-3",)), 13),
        (Conditions(model="churn", version=2), 62),
        (Conditions(model="../../x"), 1),
        (Conditions(principal="ana"), 1),
        (Conditions(outcome="refusal"), 2),
        (Conditions(outcome="schema_violation"), 1),
        (Conditions(outcome="ok"), 124),
        (Conditions(since=AT + timedelta(seconds=190), until=AT + timedelta(seconds=210)), 20),
        (Conditions(where=(("age", "21"),)), 3),
        (Conditions(where=(("age", "2.5"),)), 1),
        (Conditions(where=(("age", "21"), ("region", "north"))), 2),
        (Conditions(where=(("REGION", ""),), version=2), 22),
        (Conditions(before="0190-00000100"), 7),
    ],
)
def test_conditions(audit: Path, conditions: Conditions, count: int) -> None:
    """Each condition finds what it says, in what is sealed and in what is not."""
    assert count == len(Records(audit).page(conditions, 1000).table)


def test_pages(audit: Path) -> None:
    """The newest come first, each record once, from page to page."""
    records, found, before = Records(audit), [], None
    while True:
        page = records.page(Conditions(before=before), 50)
        found += page.table["request_id"].to_pylist()
        if not page.has_more:
            break
        before = found[-1]
    assert (127, sorted(found, reverse=True)) == (len(set(found)), found)


def test_a_field_that_nobody_has(audit: Path) -> None:
    """An unknown field is refused, naming those that there are; a value that does not fit its type as well."""
    with pytest.raises(QueryRefused, match="age, .*got `shoe`"):
        Records(audit).page(Conditions(where=(("shoe", "44"),)), 1)
    with pytest.raises(QueryRefused, match="old"):
        Records(audit).page(Conditions(where=(("age", "old"),)), 1)


def test_sql(audit: Path) -> None:
    """A SELECT sees all records as one table, and each row of the calls in `predictions`."""
    records = Records(audit)
    asked = "SELECT count(*) AS n, count(DISTINCT request_id) AS ids, max(feature_age[1]) AS oldest FROM records"
    assert [{"n": 127, "ids": 127, "oldest": 69.0}] == records.sql(asked).table.to_pylist()
    by_row = "SELECT row, feature_age FROM predictions WHERE request_id = '0190-00000001' ORDER BY row"
    ages = [(0, 1.0), (1, 2.5), (2, float(2**70))]
    assert ages == [tuple(row.values()) for row in records.sql(by_row).table.to_pylist()]
    cut = records.sql("SELECT * FROM records", 5)
    assert (5, True) == (len(cut.table), cut.has_more)


ATTACKS = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_parquet('{home}/*.parquet')",
    "SELECT * FROM read_text('{home}/state.db')",
    "SELECT getenv('HOME')",
    "SELECT * FROM read_csv('http://127.0.0.1/')",
    "COPY records TO '{home}/stolen.csv'",
    "COPY (SELECT 1) TO '{sealed}' (FORMAT parquet)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{sealed}' (FORMAT parquet)",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{sealed}'' (FORMAT parquet)')",
    "ATTACH '{home}/state.db' AS state",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA memory_limit = '64GB'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET memory_limit",
    "EXPORT DATABASE '{home}/stolen'",
    "IMPORT DATABASE '{home}'",
    "CREATE TABLE mine AS SELECT 1",
    "DROP VIEW records",
    "SELECT 1; DROP VIEW records",
    "CALL pragma_version()",
    "SELECT * FROM Path",
    "SELECT nothing FROM records",
    "not sql at all",
    "",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_sql_reads_nothing_else_and_changes_nothing(audit: Path, attack: str) -> None:
    """Files, network, extensions, settings and all statements but one SELECT are refused; every file stays the same."""
    (audit.parent / "state.db").write_bytes(b"secret")
    sealed = next(audit.glob("sealed/churn/*/*.parquet"))
    before = {path: path.read_bytes() for path in audit.parent.rglob("*") if path.is_file()}
    with pytest.raises(QueryRefused):
        Records(audit).sql(attack.format(home=audit.parent, sealed=sealed))
    assert before == {path: path.read_bytes() for path in audit.parent.rglob("*") if path.is_file()}


def test_time_is_bounded(audit: Path) -> None:
    """A query without end is ended."""
    with pytest.raises(QueryRefused, match="longer than 0 s"):
        Records(audit, Bounds(time_s=0.2)).sql("SELECT count(*) FROM range(1000000000) a, range(1000000000) b")


def test_memory_is_bounded(audit: Path) -> None:
    """A query that gathers without end is refused, and writes nothing to the disk for it."""
    with pytest.raises(QueryRefused, match="64 MB of memory"):
        Records(audit, Bounds(memory_bytes=64 << 20)).sql("SELECT list(a) FROM range(1000000000) t(a)")


def test_nothing_at_all(tmp_path: Path) -> None:
    """An empty log is an empty table."""
    assert [{"n": 0}] == Records(tmp_path).sql("SELECT count(*) AS n FROM records").table.to_pylist()
    assert 0 == len(Records(tmp_path).page(Conditions(), 1).table)


def test_export_of_calls(audit: Path, tmp_path: Path) -> None:
    """A line for each call, with the names of inference tables; what is there already is not overwritten."""
    path = tmp_path / "churn.parquet"
    assert 63 == export(Records(audit), Conditions(version=1), path)
    table = pq.read_table(path)
    names = ("request_id", "client_request_id", "request_time", "model_name", "model_version", "request", "response")
    assert set(names) <= set(table.column_names)
    assert 63 == len(set(table["request_id"].to_pylist()))
    with pytest.raises(QueryRefused, match="something at this path"):
        export(Records(audit), Conditions(), path)
    with pytest.raises(QueryRefused, match=r"\.parquet or \.csv"):
        export(Records(audit), Conditions(), tmp_path / "churn.xlsx")
    assert [path] == list(tmp_path.iterdir())


def test_export_of_rows(audit: Path, tmp_path: Path) -> None:
    """A line for each row, with the features under the names of their fields."""
    path = tmp_path / "rows.csv"
    assert 3 == export(Records(audit), Conditions(request_id="0190-00000001"), path, by_row=True)
    head, *lines = path.read_text().splitlines()
    assert {'"age"', '"x"', '"prediction_value"', '"row"'} <= set(head.split(","))
    assert 3 == len(lines)


def test_export_of_rows_by_a_feature(audit: Path, tmp_path: Path) -> None:
    """Conditions on features choose calls of sealed files and live segments alike, `by_row` as well."""
    conditions, ages = Conditions(model="churn", where=(("region", "north"),)), {}
    for by_row in (False, True):
        path = tmp_path / f"{by_row}.parquet"
        count = export(Records(audit), conditions, path, by_row=by_row)
        table = pq.read_table(path)
        ages[by_row] = (count, len(table), {"live", "sealed"} == {_where(id) for id in table["request_id"].to_pylist()})
    calls = sum(number % 3 > 0 for number in range(100, 220)) + 1
    assert {False: (calls, calls, True), True: (calls, calls, True)} == ages
    assert {"north"} == set(table["region"].to_pylist())


def _where(request_id: str) -> str:
    return "sealed" if "0190-00000100" <= request_id < "0190-00000200" else "live"


def test_rows_as_a_table(tmp_path: Path) -> None:
    """Rows to train from go into lines or a table; where a column mixes types the table is refused, naming it."""
    rows = [{"age": 1, "left": None}, {"age": 2.5, "region": "north", "left": True}]
    assert 2 == write_rows(iter(rows), tmp_path / "rows", ".parquet")
    assert [{"age": 1.0, "left": None, "region": None}, {"age": 2.5, "left": True, "region": "north"}] == pq.read_table(
        tmp_path / "rows"
    ).to_pylist()
    assert 2 == write_rows(iter(rows), tmp_path / "lines", ".jsonl")
    assert 2 == len((tmp_path / "lines").read_text().splitlines())
    with pytest.raises(QueryRefused, match="`age` has values of several types"):
        write_rows([{"age": 1}, {"age": "old"}], tmp_path / "mixed", ".parquet")
