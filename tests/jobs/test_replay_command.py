"""`penstock audit replay` as an operator types it: on a home with two versions and what the first one answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from replaying import called, write

from desk import Desk
from penstock.jobs.replay import JOBS, REPLAYS
from penstock.runtime.model import open_model
from rows import IRIS_ROW
from variants import variant

CALLS = 40


@pytest.fixture(scope="module")
def desk(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A home without a server, two versions, and what version 1 answered; to the call 7 somebody else did."""
    home = tmp_path_factory.mktemp("replayed") / "home"
    desk = Desk(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "dumb")
        patch.setenv("COLUMNS", "200")
        desk.ok("publish", str(bundles["iris"]))
        desk.ok("publish", str(variant(bundles["iris"], home.parent, 1)), "--alias", "candidate")
        model = open_model(bundles["iris"])
        rows = model.check.from_objects([{**IRIS_ROW, "petal_length": 1 + number / 10} for number in range(CALLS)]).rows
        other = [{"label": 2, "probabilities": {"0": 0.0, "1": 0.25, "2": 0.75}}]
        write(
            home,
            [
                called(model, number, [row], **({"outputs": other} if number == 7 else {}))
                for number, row in enumerate(rows)
            ],
        )
        yield desk


def test_tables_json_and_page(desk: Desk, tmp_path: Path) -> None:
    """People get tables, programs JSON, and both are kept; the page is one file. An alias and a number both name it."""
    page = tmp_path / "iris.html"
    said = desk.ok("audit", "replay", "iris", "--on", "candidate", "--by", "petal_width", "--html", str(page))
    words = " ".join(said.out.split())
    assert f"scored {CALLS} of {CALLS} rows (100.00% of those asked)" in words
    assert "1 flips (2.500%)" in words
    assert "call-000007" in words
    assert "Replay of iris on version 2" in page.read_text()
    told = desk.ok("audit", "replay", "iris", "--on", "2", "--until", "2026-11-20T08:00:05Z", "--json").json
    assert (5, 0, 2) == (told["result"]["pairs"], told["result"]["flips"], told["question"]["version"])
    kept = json.loads((desk.home / REPLAYS / f"{told['id']}.json").read_bytes())
    assert told == kept
    assert not list((desk.home / JOBS).iterdir())


def test_a_proof_that_fails_says_so_by_its_exit_code(desk: Desk, bundles: dict[str, Path]) -> None:
    """Exit 1 where the same content answers otherwise, with the row; 0 up to there; a bundle's path will do as well."""
    broken = desk("audit", "replay", "iris", "--on", "1", "--expect-identical")
    assert 1 == broken.code
    assert "NOT identical (bit for bit)" in broken.out
    assert "call-000007" in broken.out
    path = str(bundles["iris"])
    good = desk.ok("audit", "replay", "iris", "--on", path, "--expect-identical", "--until", "2026-11-20T08:00:07Z")
    assert "identical (bit for bit)" in good.out
    assert "7 of 7" in good.out


def test_what_is_not_there_is_named(desk: Desk, tmp_path: Path) -> None:
    """An unknown version, model, time or condition is said in one line; a home without a log is none."""
    assert "there is 1, 2" in desk("audit", "replay", "iris", "--on", "9").err
    assert "'autumn' is no version of 'iris'" in desk("audit", "replay", "iris", "--on", "autumn").err
    assert "no model" in desk("audit", "replay", "rose", "--on", "1").err
    assert "FIELD=VALUE" in desk("audit", "replay", "iris", "--on", "1", "--where", "x").err
    assert "there is no audit log" in Desk(tmp_path)("audit", "replay", "iris", "--on", "1").err
