"""`penstock audit` as people and programs type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from desk import Desk
from penstock.audit import read_record
from penstock.audit.extra import importlib as extra_importlib
from records import answered, odd_ones, write

REFUSED, WRONG = 1, 2


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk at a home with records of two workers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    write(tmp_path / "home" / "audit", map(answered, range(100, 130)))
    write(tmp_path / "home" / "audit", odd_ones(), worker=1)
    return Desk(tmp_path / "home")


def test_query_by_conditions(desk: Desk) -> None:
    """A table, the newest first, with the way to the next page; JSON has the records as they were written."""
    said = desk.ok("audit", "query", "--model", "churn", "--where", "age=26", "--limit", "1").out
    assert "0190-00000106" in said
    assert "yes (0.75)" in said
    page = desk.ok("audit", "query", "--limit", "36", "--json").json
    assert (36, "0190-00000002") == (len(page["records"]), page["next"].partition("~")[0])
    rest = desk.ok("audit", "query", "--before", page["next"], "--json").json
    assert (["0190-00000001"], None) == ([record["request_id"] for record in rest["records"]], rest["next"])
    assert [{"value": 1.0}, {"value": {"$float": "inf"}}, {"value": 0.1}] == rest["records"][0]["outputs"]
    assert "there are more: --before" in desk.ok("audit", "query").out
    assert "no such record" in desk.ok("audit", "query", "--key", "nobody").out
    assert ["0190-00000107"] == [
        record["request_id"] for record in desk.ok("audit", "query", "--id", "call-107", "--json").json["records"]
    ]
    assert 7 == len(desk.ok("audit", "query", "--until", "2026-11-20T11:44:00Z", "--json").json["records"]) + 1


def test_query_by_sql(desk: Desk) -> None:
    """A SELECT answers with a table, or with JSON; anything else is refused, exit 1."""
    sql = "SELECT kind, count(*) AS n FROM records GROUP BY kind ORDER BY n"
    assert [1, 2, 34] == [row["n"] for row in desk.ok("audit", "query", sql, "--json").json["rows"]]
    assert "prediction  34" in desk.ok("audit", "query", sql).out
    assert "raise --limit" in desk.ok("audit", "query", "SELECT * FROM records", "--limit", "3").out
    said = desk("audit", "query", "COPY records TO 'x.csv'")
    assert (REFUSED, True) == (said.code, "Expected one SELECT statement, got COPY" in said.err)
    assert WRONG == desk("audit", "query", sql, "--model", "churn").code
    assert WRONG == desk("audit", "query", "--where", "age").code
    assert WRONG == desk("audit", "query", "--since", "whenever").code


def test_show(desk: Desk) -> None:
    """Everything about one decision and how to compute it again; --rows is what `predict` takes; exit 1 if unknown."""
    said = desk.ok("audit", "show", "0190-00000120").out
    for what in ("customer-0", "sha256:cafe", "region", "probabilities", "--rows | penstock predict BUNDLE - --bundle"):
        assert what in said
    assert [{"age": 40, "region": None}] == desk.ok("audit", "show", "call-120", "--rows").json
    written = desk.ok("audit", "show", "0190-00000006", "--json").json[0]
    assert "schema_violation" == read_record(json.dumps(written).encode()).code
    assert 'Expected `float`, got "old" - at `$.instances[0].age`' in desk.ok("audit", "show", "0190-00000006").out
    assert "personal and was masked" in desk.ok("audit", "show", "0190-00000002").out
    missing = desk("audit", "show", "0190-99999999")
    assert (REFUSED, True) == (missing.code, "no record has the id" in missing.out)


def test_seal_then_read(desk: Desk) -> None:
    """`seal` turns all closed segments into Parquet, and what is found stays the same."""
    before = desk.ok("audit", "query", "--limit", "100", "--json").json
    assert "37 records of 2 segments are sealed" in desk.ok("audit", "seal").out
    assert before == desk.ok("audit", "query", "--limit", "100", "--json").json
    assert "nothing to seal" in desk.ok("audit", "seal").out
    assert {"segments": 0, "records": 0} == {
        name: desk.ok("audit", "seal", "--json").json[name] for name in ("segments", "records")
    }


def test_verify(desk: Desk) -> None:
    """A whole log verifies, sealed or not; a changed file is named, exit 1, and so is one that is missing."""
    assert "37 records in 2 segments" in desk.ok("audit", "verify").out
    segment = sorted((desk.home / "audit" / "worker-1").iterdir())[0]
    whole = segment.read_bytes()
    segment.write_bytes(whole.replace(b"model_failed", b"model_fooled"))
    said = desk("audit", "verify")
    assert (REFUSED, True) == (said.code, segment.name in said.out)
    segment.write_bytes(whole)
    desk.ok("audit", "seal")
    assert "37 records in 2 segments" in desk.ok("audit", "verify").out
    parquet = sorted((desk.home / "audit" / "sealed").rglob("*.parquet"))[0]
    data = parquet.read_bytes()
    parquet.write_bytes(data[:-9] + b"!" + data[-8:])
    said = desk("audit", "verify", "--json")
    assert (REFUSED, True) == (said.code, "SHA-256" in said.json["problems"][0])
    parquet.unlink()
    assert "is missing" in desk("audit", "verify").out


def test_export(desk: Desk, tmp_path: Path) -> None:
    """`export` says how many lines it wrote."""
    assert "31 lines in" in desk.ok("audit", "export", "o.csv", "--since", "2026-11-20T11:44:30Z").out.replace(
        "\n", " "
    )
    assert 32 == len((tmp_path / "o.csv").read_text().splitlines())
    rows = desk.ok("audit", "export", "rows.parquet", "--rows", "--where", "age=26", "--json").json
    assert {"file": "rows.parquet", "lines": 1} == rows


def test_without_the_extra(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where DuckDB is missing the command says what to install."""
    monkeypatch.setattr(extra_importlib.util, "find_spec", lambda name: None)
    said = desk("audit", "query")
    assert (REFUSED, True) == (said.code, "pip install 'penstock[audit]'" in said.err)


def test_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home without a log is named, exit 2."""
    monkeypatch.chdir(tmp_path)
    assert WRONG == Desk(tmp_path / "nowhere")("audit", "query").code
