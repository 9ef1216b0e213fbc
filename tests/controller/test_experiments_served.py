"""An A/B test as an operator runs it: on a real server, by feedback, from `start` to a winner that is champion."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from desk import Desk
from governed import Governed, governed
from loads import wait_for
from penstock.controller import assemble
from variants import variant

CALLS = 600
DELAY_S = 3


@pytest.fixture
def serving(bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Governed]:
    """Three versions of `amount` on two workers."""
    monkeypatch.setenv("TERM", "dumb")
    with governed(tmp_path / "home") as made:
        for bundle in (bundles["amount"], *(variant(bundles["amount"], tmp_path, number) for number in (1, 2))):
            made.publish(bundle)
        wait_for(lambda: made.served("amount") == 1, "the champion")
        yield made


def ask(serving: Governed) -> set[str]:
    """Calls by as many callers, each of whom then spends about 10, on blue 15; the arms that answered."""
    chance = random.Random(3)
    seen = set()
    with httpx.Client(base_url=f"http://127.0.0.1:{serving.server.port}", trust_env=False) as client:
        said: list[dict[str, Any]] = []
        for number in range(CALLS):
            body = {"instances": [{"x": chance.random()}], "key": f"customer-{number}"}
            answer = client.post("/v1/models/amount/predict", json=body).raise_for_status().json()
            seen.add(answer["arm"])
            spent = chance.gauss(15.0 if answer["arm"] == "blue" else 10.0, 2.0)
            said.append({"request_id": answer["request_id"], "actual": spent})
            if len(said) == 50:
                client.post("/v1/feedback", json=said).raise_for_status()
                said = []
    return seen


def test_from_start_to_the_winner(serving: Governed, tmp_path: Path) -> None:
    """Blue brings 5 more and green no more: the one is told with its interval, of the other how much more it takes; the
    winner becomes champion, and all calls are its.
    """
    desk = Desk(serving.home)
    begun = desk.ok(
        "experiment", "start", "amount", "--arm", "blue=2:30", "--arm", "green=3:30", "--metric", "value", "--delay",
        f"{DELAY_S}s", "--holdout", "5", "--id", "spent",
    ).out  # fmt: skip
    assert "blue (version 2) 30 %, green (version 3) 30 %; the champion has the rest" in begun
    wait_for(lambda: all(arm.judged for arm in serving.operations.experiment("amount").arms), "the first look")
    assert "cannot be told yet: no value of this arm" in desk.ok("experiment", "status", "amount").out
    assert {"champion", "blue", "green"} == ask(serving)

    def is_mature() -> bool:
        arms = serving.operations.experiment("amount").arms
        return all(arm.judged is not None and arm.difference is not None and not arm.judged.waiting for arm in arms)

    wait_for(is_mature, "the feedback to be counted")
    told = desk.ok("experiment", "status", "amount", "--html", str(tmp_path / "spent.html")).out
    assert "blue: can be told: value is higher by" in told
    assert "green: cannot be told yet" in told
    arms = {arm["name"]: arm for arm in desk.ok("experiment", "status", "amount", "--json").json["arms"]}
    difference = arms["blue"]["difference"]
    assert difference["lower"] < 5.0 < difference["upper"]
    assert difference["canary_n"] + difference["champion_n"] + arms["green"]["difference"]["canary_n"] == CALLS
    assert [[], []] == [arm["alarms"] for arm in arms.values()]
    assert "Experiment spent of amount" in (tmp_path / "spent.html").read_text()
    ended = desk.ok("experiment", "end", "amount", "--winner", "blue", "--reason", "5 more a call").out
    assert "the experiment spent has ended" in ended
    assert 2 == serving.served("amount")
    assert "blue: can be told" in desk.ok("experiment", "status", "amount", "--watch").out


def test_what_cannot_be_started_or_ended(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong is said with what would be right; nothing is changed. No server is needed to say so."""
    monkeypatch.setattr(assemble, "failure_of", lambda path, settings: None)
    desk = Desk(tmp_path / "home")
    for bundle in (bundles["amount"], *(variant(bundles["amount"], tmp_path, number) for number in (1, 2))):
        desk.ok("publish", str(bundle))
    start = ("experiment", "start", "amount")
    wrong = [
        desk(*start, "--arm", "blue=2"),
        desk(*start, "--arm", "blue=2:x"),
        desk(*start, "--arm", "champion=2:5"),
        desk(*start, "--arm", "blue=2:60", "--arm", "green=3:60"),
        desk(*start, "--arm", "blue=2:5", "--metric", "conversion"),
        desk(*start, "--arm", "blue=2:5", "--metric", "clicks"),
        desk(*start, "--arm", "blue=2:5", "--delay", "soon"),
        desk("experiment", "end", "amount", "--reason", " "),
    ]
    assert [2] * len(wrong) == [one.code for one in wrong]
    for what in ("ARM=VERSION:PERCENT", "at most 10000", "conversion:LABEL"):
        assert any(what in " ".join(one.err.split()) for one in wrong), what
    assert 1 == desk(*start, "--arm", "blue=9:5").code
    assert "has no experiment under way" in desk("experiment", "end", "amount", "--reason", "x").err
    assert "has had no experiment" in desk("experiment", "status", "amount").err
    desk.ok(*start, "--arm", "blue=2:5", "--id", "a", "--key", "x")
    assert "x" == desk.ok("model", "amount", "--json").json["config"]["options"]["key"]
    assert "has the experiment a under way" in desk(*start, "--arm", "blue=2:5", "--id", "b").err
    desk.ok(*start, "--arm", "blue=2:10", "--id", "a")
    assert "there is blue" in desk("experiment", "end", "amount", "--reason", "x", "--winner", "red").err
    assert "blue (version 2) 10 %" in desk.ok(*start, "--arm", "blue=2:10", "--id", "a").out


@pytest.mark.parametrize(
    "words", [("experiment", "start"), ("experiment", "status"), ("experiment", "end"), ("rollout", "aa")]
)
def test_each_command_shows_an_example(tmp_path: Path, words: tuple[str, str]) -> None:
    """`--help` ends in something to type."""
    said = Desk(tmp_path)(*words, "--help")
    assert (0, True) == (said.code, f"penstock {' '.join(words)} churn" in " ".join(said.out.split()))
