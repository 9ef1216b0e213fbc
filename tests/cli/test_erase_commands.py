"""`penstock audit export`, `erase` and `history` one after the other, as people and programs type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from desk import Desk
from records import answered, write

REFUSED, WRONG = 1, 2


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk at a home with ten records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("PENSTOCK_CONTROL__NODE", "mill")
    write(tmp_path / "home" / "audit", map(answered, range(10)))
    return Desk(tmp_path / "home")


def test_erase_and_what_follows(desk: Desk, tmp_path: Path) -> None:
    """Erasing wants a reason, mends the export that it finds, names the other, and the history has all of it."""
    desk.ok("audit", "export", "all.csv", "--model", "churn", "--key", "customer-3")
    desk.ok("audit", "export", "lost.parquet")
    Path("lost.parquet").unlink()
    assert WRONG == desk("audit", "erase", "--key", "customer-3").code
    said = desk.ok("audit", "erase", "--key", "customer-3", "--reason", "as asked").out.replace("\n", " ")
    for what in (
        "the payloads of 1 records are erased",
        f"1 lines are gone from {tmp_path / 'all.csv'} on mill, exported by ",
        f"to be erased by hand: {tmp_path / 'lost.parquet'} on mill",
        "it is not at this path any more",
    ):
        assert what in said, said
    assert 1 == len(Path("all.csv").read_text().splitlines())
    again = desk.ok("audit", "erase", "--key", "customer-3", "--reason", "again", "--json").json
    assert (0, ["lost.parquet"]) == (again["records"], [Path(one["path"]).name for one in again["exports"]])
    history = desk.ok("history", "churn").out.replace("\n", " ")
    for what in ("exported 1 lines (model churn, of one key) to", "erased the payloads of 1 records on mill; and from"):
        assert what in " ".join(history.split()), history
    assert ["exported", "exported", "erased", "erased"] == [
        event["change"]["type"] for event in desk.ok("history", "churn", "--json").json["events"]
    ]
    assert "customer-3" not in desk.ok("history", "churn", "--json").out
    assert "10 records" in desk.ok("audit", "verify").out
    assert REFUSED == desk("history", "nobody").code


def test_what_a_seal_removes_is_told(desk: Desk, tmp_path: Path) -> None:
    """Retention by model, of the settings file, is in the history of the model."""
    (tmp_path / "penstock.toml").write_text("[audit.retention.churn]\ndays = 0.01\n")
    assert "older than 0.01 days" in desk.ok("audit", "seal").out.replace("\n", " ")
    history = " ".join(desk.ok("history", "churn").out.split())
    assert "removed 10 records in 1 files" in history, history
