"""What a shadow found, as people and programs see it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from shadowing import Champion, caught_up, shadow_of

from desk import Desk
from penstock.control.answers import ShadowAnswer
from penstock.runtime.model import open_model
from rows import IRIS_ROW


@pytest.fixture
def desk(bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A home in which version 2 has shadowed version 1 over six calls, one of which was answered otherwise."""
    monkeypatch.setenv("TERM", "dumb")
    home = tmp_path / "home"
    model = open_model(bundles["iris"])
    champion = Champion(home, model)
    shadow_of(home, model).close()
    champion.answer(*[[dict(IRIS_ROW)]] * 5)
    other: dict[str, Any] = {"label": 2, "probabilities": {"0": 0.0, "1": 0.25, "2": 0.75}}
    champion.answer([dict(IRIS_ROW)], outputs=[other])
    caught_up(shadow_of(home, model)).close()
    return Desk(home)


def test_the_whole_comparison(desk: Desk, tmp_path: Path) -> None:
    """Tables for people, JSON for programs, and a page that needs nothing else."""
    said = desk.ok("shadow", "iris", "--html", str(tmp_path / "iris.html")).out
    assert "1 flips (16.667%)" in said
    page = (tmp_path / "iris.html").read_text()
    assert "iris: version 2 shadows version 1" in page
    assert "<script" not in page
    told = desk.ok("shadow", "iris", "--on", "2", "--json").json
    assert (6, 1, 0, 2) == (told["result"]["pairs"], told["result"]["flips"], told["errors"], told["of"]["version"])


def test_where_none_has_shadowed(desk: Desk) -> None:
    """The message says what there is."""
    assert "no shadow 7 of 'iris'" in desk("shadow", "iris", "--on", "7").err
    assert "there are 2" in desk("shadow", "iris", "--on", "7").err
    assert "none has shadowed here" in desk("shadow", "churn").err


def test_a_line_of_the_model() -> None:
    """`penstock model` says how it goes: state and why, pairs, disagreement, errors, lag, what was passed by."""
    from penstock.cli.shadow import line_of

    told = ShadowAnswer(
        version=3,
        champion=1,
        state="restarting",
        why="its process was killed by SIGSEGV",
        deaths=2,
        pairs=2000,
        disagreement=0.0125,
        errors=7,
        crashed=1,
        unscorable=4,
        skipped=5,
        lag_s=12.3,
        at=datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        last_failure="no",
    )
    assert (
        "version 3 shadows version 1: restarting (its process was killed by SIGSEGV), 2,000 pairs (1.25% disagree), "
        "7 errors, 12.3 s behind, 5 skipped, 4 unscorable, 1 crashes, 2 deaths, as of 12:30:00 UTC, last failure: no"
    ) == line_of(told)
