"""The commands of the control plane as an operator types them, on a home where no server runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broken import failing_golden_row
from churns import churn_versions
from desk import Desk
from governed import governed

REFUSED, WRONG = 1, 2


@pytest.fixture(scope="module")
def churns(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of one model."""
    return churn_versions(bundles["churn"], tmp_path_factory.mktemp("churns"))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An operator's desk, at an empty home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PENSTOCK_CONTROL__NODE", "quay")
    yield Desk(tmp_path / "home")


def test_from_publish_to_rollback(desk: Desk, churns: dict[str, Path]) -> None:
    """Publishing, deploying, going back and looking: what each command prints names what an operator wants to know."""
    assert "nothing is published yet" in desk.ok("models").out
    first = desk.ok("publish", str(churns["first"])).out
    assert "champion of churn: nothing → version 1" in first
    assert "no server runs here" in first
    assert "Next: penstock deploy churn 2" in desk.ok("publish", str(churns["second"])).out
    assert "(was there already)" in desk.ok("publish", str(churns["second"])).out
    assert "version 1 → version 2" in desk.ok("deploy", "churn", "2", "--reason", "autumn retraining").out
    assert "version 2, as before" in desk.ok("deploy", "churn", "latest").out
    assert "candidate of churn: nothing → version 1" in desk.ok("alias", "churn", "Staging", "1").out
    shown = " ".join(desk.ok("model", "churn").out.split())
    assert "champion: version 2 since" in shown
    assert '(unverified): "autumn retraining"' in shown
    assert "`penstock rollback churn` goes back to version 1" in shown
    assert "no machine serves it" in shown
    assert "version 2 → version 1" in desk.ok("rollback", "churn").out
    assert "candidate of churn: version 1 → nothing" in desk.ok("alias", "churn", "candidate", "--remove").out
    row = " ".join(desk.ok("models").out.split())
    assert "churn 1 " in row
    assert "no machine" in row
    told = desk.ok("history", "churn").out
    for what in (
        "published version 1",
        "champion: version 1 → version 2",
        "(rollback)",
        "autumn retraining",
        "on quay",
    ):
        assert what in told


def test_programs_read_json(desk: Desk, churns: dict[str, Path]) -> None:
    """With --json each command prints one document; keys and values are those of the control API."""
    published = desk.ok("publish", str(churns["first"]), "--json").json
    assert ("churn", 1, True) == (published["model"], published["version"], published["is_new"])
    desk.ok("publish", str(churns["second"]), "--json")
    moved = desk.ok("deploy", "churn", "2", "--json").json
    assert (1, 2, True, False) == (moved["before"], moved["after"], moved["is_changed"], moved["is_applied"])
    model = desk.ok("model", "churn", "--json").json
    assert ({"champion": 2}, 1, moved["revision"]) == (model["aliases"], model["rollback_to"], model["revision"])
    assert [model] == desk.ok("models", "--json").json
    history = desk.ok("history", "churn", "--json").json
    assert [span["version"] for span in history["wanted"]] == [1, 2]
    then = history["events"][1]["at"]
    assert {"champion": 1} == desk.ok("history", "churn", "--at", then, "--json").json["aliases_at"]
    assert {"versions": {}, "files": [], "freed_bytes": 0, "is_dry": True} == desk.ok("gc", "--dry-run", "--json").json


def test_what_was_then(desk: Desk, churns: dict[str, Path]) -> None:
    """`history --at` says what each alias meant, since when and by whom, or that it is before the first."""
    desk.ok("publish", str(churns["first"]), "--reason", "the first")
    now = desk.ok("history", "churn", "--at", "now").out
    assert "champion: version 1 since" in now
    assert '(unverified): "the first"' in now
    assert "no alias meant anything then; the first was at" in desk.ok("history", "churn", "--at", "2h ago").out


def test_a_refusal_names_each_reason(desk: Desk, churns: dict[str, Path]) -> None:
    """A breaking schema and a broken rule are named, the alias stays; --force with a reason overrules them for good."""
    desk.ok("publish", str(churns["first"]))
    desk.ok("publish", str(churns["narrow"]))
    desk.ok("publish", str(churns["worse"]))
    (desk.home / "rules.yaml").write_text("models: {churn: {rules: {champion: {floors: {roc_auc: 0.85}}}}}")
    desk.ok("apply", str(desk.home / "rules.yaml"))
    said = desk("deploy", "churn", "2")
    assert REFUSED == said.code
    assert "refused: champion of 'churn' stays, and does not move to version 2" in said.err
    assert "  - callers of version 1 break: field `age`: the range is narrower" in said.err
    assert "--force with a --reason overrules it" in said.err
    worse = desk("deploy", "churn", "3")
    assert (REFUSED, True) == (worse.code, "  - roc_auc is 0.7, to be at least 0.85" in worse.err)
    assert {"champion": 1} == desk.ok("model", "churn", "--json").json["aliases"]
    assert WRONG == desk("deploy", "churn", "3", "--force").code
    forced = desk.ok("deploy", "churn", "3", "--force", "--reason", "nothing else runs").out
    assert "overruled: roc_auc is 0.7" in forced
    assert "overruled: roc_auc is 0.7" in desk.ok("history", "churn").out


def test_what_does_not_load_is_refused_for_good(desk: Desk, churns: dict[str, Path], tmp_path: Path) -> None:
    """A version that fails its trial on this machine stays out, and `penstock model` says why."""
    desk.ok("publish", str(churns["first"]))
    desk.ok("publish", str(failing_golden_row(churns["first"], tmp_path)))
    said = desk("deploy", "churn", "2", "--force", "--reason", "I know better")
    assert (REFUSED, True) == (said.code, "this cannot be overruled" in said.err)
    assert "version 2 cannot be served here" in said.err
    assert "quay cannot serve it: " in desk.ok("model", "churn").out


def test_two_operators(desk: Desk, churns: dict[str, Path]) -> None:
    """Whoever insists on the revision that he read is told when somebody was faster; the trial does not count."""
    desk.ok("publish", str(churns["first"]))
    desk.ok("publish", str(churns["second"]))
    read = desk.ok("model", "churn", "--json").json["revision"]
    desk.ok("deploy", "churn", "2", "--if-revision", str(read))
    said = desk("rollback", "churn", "--if-revision", str(read))
    assert (REFUSED, True) == (said.code, "look at what was changed" in said.err)


def test_a_declared_state(desk: Desk, churns: dict[str, Path]) -> None:
    """`apply --dry-run` shows the difference and changes nothing; `apply` makes it so, and again there is none."""
    desk.ok("publish", str(churns["first"]))
    desk.ok("publish", str(churns["second"]))
    file = desk.home / "deployments.yaml"
    file.write_text(
        "models:\n  churn:\n    aliases: {Production: 2, candidate: 1}\n    lazy: true\n"
        "    decision: {label: yes, otherwise: no, threshold: 0.4}\n"
    )
    dry = desk.ok("apply", str(file), "--dry-run").out
    assert "alias champion: version 1 → version 2" in dry
    assert "4 differences; nothing was changed" in dry
    assert {"champion": 1} == desk.ok("model", "churn", "--json").json["aliases"]
    desk.ok("apply", str(file), "--reason", "pull request 12")
    model = desk.ok("model", "churn", "--json").json
    assert {"candidate": 1, "champion": 2} == model["aliases"]
    assert {"lazy": True, "decision": {"label": "yes", "otherwise": "no", "threshold": 0.4}} == model["config"][
        "options"
    ]
    assert "all is as declared" in desk.ok("apply", str(file)).out
    said = desk("apply", "-", stdin="models: {churn: {aliasses: {}}}")
    assert (WRONG, True) == (said.code, "did you mean `aliases`?" in said.err)
    odd = desk("apply", "-", stdin="models: {churn: {decision: {label: perhaps, otherwise: no, threshold: 0.4}}}")
    assert (REFUSED, True) == (odd.code, "does not fit version 2: Expected `label` to be one of no, yes" in odd.err)


def test_removing(desk: Desk, churns: dict[str, Path]) -> None:
    """What is used stays and says by what; what is not used goes, its number is not given again."""
    for kind in ("first", "second", "worse"):
        desk.ok("publish", str(churns[kind]))
    desk.ok("deploy", "churn", "2")
    assert "it is champion: move the alias first" in desk("remove", "churn", "2").err
    assert "`penstock rollback churn` would go back to it" in desk("remove", "churn", "1").err
    assert {"model": "churn", "version": 3} == desk.ok("remove", "churn", "3", "--json").json
    assert "version 3 → " not in desk.ok("history", "churn").out
    assert "churn version 4" in desk.ok("publish", str(churns["worse"])).out


def test_backup_and_restore(desk: Desk, churns: dict[str, Path], tmp_path: Path) -> None:
    """A backup makes another home with the same history; an existing home is not touched."""
    desk.ok("publish", str(churns["first"]), "--reason", "the first")
    assert "penstock restore" in desk.ok("backup", str(tmp_path / "copy")).out
    other = Desk(tmp_path / "other")
    assert "Next: penstock serve --home" in other.ok("restore", str(tmp_path / "copy")).out
    again = Desk(tmp_path / "again").ok("restore", str(tmp_path / "copy"), "--json").json
    assert (str(tmp_path / "again"), 3) == (again["home"], again["revision"])
    told = [event | {"at": ""} for event in desk.ok("history", "churn", "--json").json["events"]]
    assert told == [event | {"at": ""} for event in other.ok("history", "churn", "--json").json["events"]]
    assert REFUSED == other("restore", str(tmp_path / "copy")).code


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["publish", "nowhere"], WRONG, "there is nothing at this path"),
        (["deploy", "churn"], WRONG, "VERSION"),
        (["deploy", "churn", "1"], REFUSED, "no model 'churn'; there is nothing"),
        (["deploy", "churn", "newest"], REFUSED, "no model 'churn'"),
        (["alias", "churn", "blue"], WRONG, "give a VERSION, or --remove"),
        (["history", "churn", "--at", "foo"], WRONG, "expected a time as in"),
        (["apply", "nowhere.yaml"], WRONG, "nowhere.yaml"),
        (["models", "--url", "http://127.0.0.1:9"], REFUSED, "127.0.0.1:9"),
        (["restore", "nowhere"], REFUSED, "nowhere"),
    ],
)
def test_wrong_use_and_no(desk: Desk, words: list[str], code: int, said: str) -> None:
    """Wrong use exits 2, an answer that is no exits 1; either says why, without a traceback."""
    found = desk(*words)
    assert (code, True) == (found.code, said in found.err), found.err
    assert "Traceback" not in found.err


COMMANDS = (
    *("publish", "deploy", "alias", "rollback", "remove", "apply", "gc", "backup", "restore"),
    *("models", "model", "history"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(desk: Desk, command: str) -> None:
    """`--help` ends in something to type."""
    assert f"Example: penstock {command}" in " ".join(desk.ok(command, "--help").out.split())


def test_with_a_server(bundles: dict[str, Path], churns: dict[str, Path], desk: Desk) -> None:
    """Beside a server the commands ask its controller, and end when all workers answer by what was asked."""
    with governed(desk.home) as plane:
        assert "all workers of this machine answer by it" in desk.ok("publish", str(churns["first"])).out
        elsewhere = Desk(desk.home.parent / "nothing here")
        assert "churn version 2" in elsewhere.ok("publish", str(churns["second"]), "--url", plane.control_url).out
        assert "all workers of this machine answer by it" in desk.ok("deploy", "churn", "2", "--reason", "better").out
        assert 2 == plane.served("churn")
        refused = desk("publish", str(churns["narrow"]), "--alias", "champion")
        assert (REFUSED, True) == (refused.code, "  - callers of version 2 break" in refused.err)
        assert "version 3 of 'churn' is published, and champion does not move to it" in refused.err
        assert "all workers of this machine answer by it" in desk.ok("rollback", "churn").out
        shown = " ".join(desk.ok("model", "churn").out.split())
        assert "mill answers champion by version 1 since" in shown
        assert "mill" in " ".join(desk.ok("models").out.split())
    told = desk.ok("history", "churn").out
    assert "mill answers champion by version 2" in told
    assert "mill serves it no more" in told
