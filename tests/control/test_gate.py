"""What speaks against a move, on real bundles: the trial, the schema, the rules, what is declared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from states import state_of

from churns import churn_versions
from penstock.control.changes import Change, Configured, ModelConfig, Moved, Published, Rules, Tried, Who
from penstock.control.gate import LoadGate
from penstock.control.state import State
from penstock.controller.assemble import misfit_of
from penstock.errors import BundleRefused, RepositoryUnavailable
from penstock.routing import Decision, FallbackOptions, ModelOptions

Attempt = Callable[[Path], str | None]


@pytest.fixture(scope="module")
def churns(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of one model."""
    return churn_versions(bundles["churn"], tmp_path_factory.mktemp("churns"))


class Places:
    """A repository of paths: the seal is the path. Those in `away` cannot be reached, those in `damaged` are."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.damaged: set[str] = set()

    def local(self, seal: str) -> Path:
        """Where it lies."""
        if seal in self.away:
            raise RepositoryUnavailable("the bucket cannot be reached")
        if seal in self.damaged:
            raise BundleRefused("schema.yaml: it was changed")
        return Path(seal)


def state_with(paths: list[Path], *more: Change, tried: bool = False) -> State:
    """The bundles as versions 1, 2, …, the first one champion."""
    changes: list[Change] = []
    for number, path in enumerate(paths, 1):
        metrics = {"roc_auc": 1.0 - number / 10}
        changes.append(
            Published(
                version=number, digest=str(path), seal=str(path), size_bytes=1, flavour="onnx", metrics=metrics,
                evaluation_set="sha256:ab",
            )
        )  # fmt: skip
        if number == 1:
            changes.append(Moved(alias="champion", after=1))
        if tried:
            changes.append(Tried(version=number, node="quay"))
    return state_of(*changes, *more)


def gate_of(attempt: Attempt = lambda path: None, places: Places | None = None) -> tuple[LoadGate, list[Tried]]:
    """The gate of the machine `quay`, and what it notes."""
    noted: list[Tried] = []

    def note(name: str, tried: Tried, who: Who) -> None:
        assert ("churn", Who("penstock", is_verified=True)) == (name, who)
        noted.append(tried)

    gate = LoadGate(places or Places(), attempt, node="quay", misfit=misfit_of)
    gate.note = note
    return gate, noted


def test_nothing_speaks_against_a_good_version(churns: dict[str, Path]) -> None:
    """A version that loads, takes the same rows and keeps the rules may become champion; the trial is noted."""
    gate, noted = gate_of()
    state = state_with([churns["first"], churns["second"]])
    assert ([], []) == gate.reasons(state, "churn", "champion", 2)
    assert [Tried(version=2, node="quay")] == noted


def test_what_does_not_load_is_final(churns: dict[str, Path]) -> None:
    """A failing trial is noted with its reason, and nothing else is asked."""
    gate, noted = gate_of(lambda path: "golden row 3 differs")
    state = state_with([churns["first"], churns["narrow"]])
    assert (["version 2 cannot be served here: golden row 3 differs"], []) == gate.reasons(
        state, "churn", "champion", 2
    )
    assert [Tried(version=2, node="quay", why="golden row 3 differs")] == noted


def test_a_version_is_tried_once_on_a_machine(churns: dict[str, Path]) -> None:
    """What has loaded here is not loaded again; on another machine it is."""
    state = state_with([churns["first"], churns["second"]], tried=True)
    gate, noted = gate_of(lambda path: pytest.fail("it was tried"))
    assert ([], []) == gate.reasons(state, "churn", "champion", 2)
    other = LoadGate(Places(), lambda path: "no room", node="mole")
    assert "version 2 cannot be served here: no room" == other.tried(state.model("churn"), 2)
    assert [] == noted


def test_a_store_that_is_away_says_nothing_about_the_version(churns: dict[str, Path]) -> None:
    """It is raised, and no failure of the version."""
    places = Places()
    places.away.add(str(churns["second"]))
    gate, noted = gate_of(places=places)
    with pytest.raises(RepositoryUnavailable):
        gate.reasons(state_with([churns["first"], churns["second"]]), "churn", "champion", 2)
    assert [] == noted


def test_a_damaged_candidate_is_its_own_fault(churns: dict[str, Path]) -> None:
    """A bundle that is not what its seal says cannot be served."""
    places = Places()
    places.damaged.add(str(churns["second"]))
    gate, noted = gate_of(places=places)
    final, _ = gate.reasons(state_with([churns["first"], churns["second"]]), "churn", "champion", 2)
    assert ["version 2 cannot be served here: schema.yaml: it was changed"] == final
    assert ["schema.yaml: it was changed"] == [tried.why for tried in noted]


def test_breaking_changes_may_be_overruled(churns: dict[str, Path]) -> None:
    """A schema that callers of the champion break on is a reason that --force overrules; so are other classes."""
    gate, _ = gate_of()
    state = state_with([churns["first"], churns["narrow"], churns["renamed"]])
    expected = ["callers of version 1 break: field `age`: the range is narrower: [-∞, ∞] → [0, 120]"]
    assert ([], expected) == gate.reasons(state, "churn", "candidate", 2)
    _, [classes] = gate.reasons(state, "churn", "champion", 3)
    assert "callers of version 1 break: classes changed: without 'no', 'yes' and with 'gone', 'here'" == classes


def test_a_champion_that_was_damaged_does_not_hold_its_place(churns: dict[str, Path]) -> None:
    """The way out of a champion whose bundle cannot be read any more needs --force, and is there."""
    places = Places()
    places.damaged.add(str(churns["first"]))
    gate, _ = gate_of(places=places)
    final, [soft] = gate.reasons(state_with([churns["first"], churns["second"]]), "churn", "champion", 2)
    assert [] == final
    assert "the schema cannot be compared with that of version 1, the champion: schema.yaml: it was changed" == soft


def test_rules_are_those_of_the_alias(churns: dict[str, Path]) -> None:
    """The champion's rules are asked for the champion only."""
    rules = ModelConfig(rules={"champion": Rules(floors={"roc_auc": 0.85}, max_loss={"roc_auc": 0.05})})
    gate, _ = gate_of()
    state = state_with([churns["first"], churns["second"]], Configured(before=ModelConfig(), after=rules))
    _, broken = gate.reasons(state, "churn", "champion", 2)
    assert [
        "roc_auc is 0.8, to be at least 0.85",
        "roc_auc is 0.8, the champion's is 0.9: worse by more than 0.05",
    ] == broken
    assert ([], []) == gate.reasons(state, "churn", "candidate", 2)


def test_a_version_must_fit_what_is_declared(churns: dict[str, Path]) -> None:
    """A version without the declared decision's labels is not moved to, whatever is said."""
    config = ModelConfig(options=ModelOptions(decision=Decision(label="yes", otherwise="no", threshold=0.4)))
    gate, _ = gate_of()
    state = state_with([churns["first"], churns["renamed"]], Configured(before=ModelConfig(), after=config))
    [final], _ = gate.reasons(state, "churn", "champion", 2)
    assert "what is declared does not fit version 2: Expected `label` to be one of gone, here, got 'yes'" in final


def test_what_is_declared_must_fit_what_is_served(churns: dict[str, Path]) -> None:
    """A decision or fallback that versions cannot keep to is named with them; what cannot be read says nothing."""
    gate, _ = gate_of()
    state = state_with([churns["first"], churns["renamed"]], Moved(alias="candidate", after=2))
    model = state.model("churn")
    decided = ModelOptions(decision=Decision(label="yes", otherwise="no", threshold=0.4))
    [misfit] = gate.misfits(model, decided, [1, 2])
    assert "does not fit version 2: Expected `label` to be one of gone, here, got 'yes'" in misfit
    assert 2 == len(gate.misfits(model, ModelOptions(fallback=FallbackOptions(kind="constant")), [1, 2]))
    assert [] == gate.misfits(model, ModelOptions(is_lazy=True, key="age"), [1, 2])
    [one, _] = gate.misfits(model, ModelOptions(key="customer"), [1, 2])
    assert "version 1: `key` names the field 'customer', which its rows do not have; there is age, device" in one
