"""Live segments as a table: only what is asked for is decoded, what was decoded is remembered, and both are bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.audit import Record, Wanted, erase, open_pseudonyms, tag
from penstock.audit import live as live_module
from penstock.audit.columns import ALL, Detail
from penstock.audit.conditions import Conditions
from penstock.audit.live import LiveSegments
from penstock.audit.query import Bounds, Records, _Asking
from penstock.audit.seal import Sealer
from penstock.errors import QueryRefused
from records import AT, answered, odd_ones, write

SMALL_BLOCK_BYTES = 2_000


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of some kilobytes are read in several blocks."""
    monkeypatch.setattr(live_module, "_BLOCK_BYTES", SMALL_BLOCK_BYTES)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with sealed records that have other features than the live ones."""
    audit = tmp_path_factory.mktemp("home") / "audit"
    write(audit, (answered(number, input=[{"tenure": number}]) for number in range(30, 40)))
    Sealer(audit).seal()
    write(audit, map(answered, range(10, 30)))
    write(audit, odd_ones(), worker=1)
    return audit


QUESTIONS = [
    "SELECT count(*) AS n FROM records",
    "SELECT model, count(*) AS n FROM records GROUP BY ALL ORDER BY n",
    "FROM records ORDER BY run, seq",
    "SELECT * EXCLUDE (envelope) FROM records ORDER BY run, seq",
    "SELECT * LIKE 'feature%' FROM records ORDER BY run, seq",
    "SELECT COLUMNS('feature_a.*') FROM records ORDER BY run, seq",
    "SELECT r FROM records r ORDER BY run, seq",
    "SELECT avg(feature_age[1]) AS age FROM records",
    "SELECT count(*) AS n FROM records WHERE feature_region[1] = 'north'",
    "SELECT FEATURE_REGION[1] AS region, count(*) AS n FROM records GROUP BY 1 ORDER BY n",
    'SELECT "feature_$ref" AS ref FROM records ORDER BY run, seq',
    "SELECT max(feature_tenure[1]) AS tenure FROM records",
    "SELECT prediction_label[1] AS label, envelope FROM records ORDER BY run, seq",
    "SELECT input, outputs FROM records ORDER BY run, seq",
    "SELECT request_id FROM records WHERE payload LIKE '%north%' ORDER BY 1",
    "SELECT row, age FROM (SELECT row, feature_age AS age FROM predictions) ORDER BY ALL",
    "SELECT count(*) AS n FROM predictions",
    "SELECT a.seq FROM records a JOIN predictions b USING (run, seq) WHERE b.feature_age > 30 ORDER BY 1",
    "SELECT column_name FROM (DESCRIBE records) ORDER BY 1",
    "SELECT column_name FROM (SUMMARIZE records) ORDER BY 1",
    "WITH old AS (FROM records WHERE code = 'ok') SELECT max(feature_age[1]) AS age FROM old",
    "SELECT 1 AS one",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_left_out_is_not_missed(mixed: Path, question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SELECT has the same answer whether all of the live records was decoded, or what its plan needs."""
    spared = Records(mixed).sql(question).table
    monkeypatch.setattr(_Asking, "detail", lambda asking, select: ALL)
    whole = Records(mixed).sql(question).table
    assert (whole.column_names, repr(whole.to_pylist())) == (spared.column_names, repr(spared.to_pylist()))


def test_what_is_not_needed_is_not_decoded(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of envelopes decode neither rows nor lines; features need no lines."""
    seen: list[Detail] = []
    table = LiveSegments.table
    monkeypatch.setattr(
        LiveSegments,
        "table",
        lambda self, files, conditions, detail, allowance: (
            seen.append(detail) or table(self, files, conditions, detail, allowance)
        ),
    )
    records = Records(mixed)
    records.sql("SELECT version, count(*) FROM records WHERE arrived_at > '2026-11-20' GROUP BY version")
    records.sql("SELECT avg(feature_age[1]) FROM records")
    records.sql("SELECT input FROM records")
    records.page(Conditions(model="churn"), 5)
    records.page(Conditions(where=(("age", "21"),)), 5)
    envelopes, features = Detail(texts=False, typed=False), Detail(texts=False, typed=True)
    assert [envelopes, features, Detail(texts=True, typed=False), envelopes, features] == seen


@pytest.mark.usefixtures("blocks")
def test_what_grows_is_read_on(tmp_path: Path) -> None:
    """Kept records give at each asking what is there: more, the same in sealed files, and less what was erased."""
    audit = tmp_path / "audit"
    records = Records(audit)
    write(audit, map(answered, range(40)))
    whole = next(audit.glob("worker-0/*.jsonl"))
    data = whole.read_bytes()
    ends = [at + 1 for at in range(len(data)) if data[at : at + 1] == b"\n"]
    seen = []
    for end in (ends[9], ends[31] - 7, ends[31], len(data)):
        whole.write_bytes(data[:end])
        seen.append(records.sql("SELECT count(*) AS n, count(payload) AS kept FROM records").table.to_pylist()[0]["n"])
    assert [4, 20, 24, 40] == seen
    pseudonyms = open_pseudonyms(tmp_path)
    assert 1 == erase(audit, Wanted(request_ids=frozenset({"0190-00000007"})), pseudonyms).records
    kept = "SELECT count(*) AS n, count(payload) AS kept FROM records"
    assert [{"n": 40, "kept": 39}] == records.sql(kept).table.to_pylist()
    Sealer(audit).seal()
    assert [{"n": 40, "kept": 39}] == records.sql(kept).table.to_pylist()


@pytest.mark.usefixtures("blocks")
def test_what_is_remembered_is_bounded(mixed: Path) -> None:
    """Beyond its bound nothing is remembered, and what is found stays the same."""
    conditions = Conditions(model="churn")
    for kept_bytes in (0, 8_000, 1 << 20):
        records = Records(mixed)
        records._live = LiveSegments(mixed, kept_bytes)
        for _ in range(2):
            assert (
                30
                == records.sql(
                    "SELECT count(*) AS n FROM records WHERE kind='prediction' AND request_id >= '0190-00000010'"
                )
                .table["n"][0]
                .as_py()
            )
            assert 35 == len(records.page(conditions, 100).table)
        assert sum(each.nbytes for each in records._live._kept.values()) <= kept_bytes


def test_live_records_are_bounded(mixed: Path) -> None:
    """More live records than a query may hold are refused, with what to do; by an id they are found all the same."""
    records = Records(mixed, Bounds(live_bytes=4_000))
    with pytest.raises(QueryRefused, match=r"not sealed yet take more .*`penstock audit seal`"):
        records.sql("SELECT * FROM records")
    assert 1 == len(records.page(Conditions(request_id="0190-00000015"), 10).table)


def test_reading_takes_of_the_time(mixed: Path) -> None:
    """The time of a query covers the reading of live segments."""
    with pytest.raises(QueryRefused, match="longer than 0 s"):
        Records(mixed, Bounds(time_s=1e-9)).page(Conditions(), 1)


def steps() -> st.SearchStrategy[list[tuple[str, list[int]]]]:
    """What happens to a log between pages: records of some calls are written, feedback about them, sealing."""
    calls = st.lists(st.integers(0, 30), min_size=1, max_size=6)
    return st.lists(st.tuples(st.sampled_from(["calls", "feedback", "seal", "page"]), calls), max_size=8)


def said(number: int) -> Record:
    """A statement about a call: it has the request id of it."""
    return Record(kind="feedback", request_id=f"0190-{number:08d}", at=AT, input=tag([{"index": 0, "actual": 1}]))


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=st.lists(st.integers(0, 30), min_size=3, max_size=8), then=steps(), size=st.integers(3, 6))
def test_pages_over_a_growing_log(
    tmp_path_factory: pytest.TempPathFactory, before: list[int], then: list[tuple[str, list[int]]], size: int
) -> None:
    """Pages have each record once, the newest first, and all that were there at the first page, whatever comes."""
    audit = tmp_path_factory.mktemp("growing") / "audit"
    write(audit, [make(number) for number in before for make in (answered, said)])
    records = Records(audit)
    first = set(named(records, Conditions()))
    events: Iterator[tuple[str, list[int]]] = iter(then)
    found: list[tuple[str, str, int]] = []
    following = None
    while True:
        page = records.page(Conditions(before=following), size)
        found += [tuple(row.values()) for row in page.table.select(["request_id", "run", "seq"]).to_pylist()]
        following = page.next
        if following is None:
            break
        happens(audit, *next(events, ("page", [])))
    assert sorted(found, reverse=True) == found
    assert len(set(found)) == len(found)
    assert set() == first - set(found)


def happens(audit: Path, what: str, numbers: list[int]) -> None:
    """One of `steps`."""
    if what == "seal":
        Sealer(audit).seal()
    elif what != "page":
        write(audit, map(answered if what == "calls" else said, numbers), worker=1)


def named(records: Records, conditions: Conditions) -> list[tuple[str, str, int]]:
    """Which records there are."""
    table = records.page(conditions, 10_000).table
    return [tuple(row.values()) for row in table.select(["request_id", "run", "seq"]).to_pylist()]
