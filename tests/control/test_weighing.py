"""Experiments as part of the state: begun, weighed anew, ended; what is judged, and what machines are to serve."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from states import ANA, PlainGate, control_of, published, state_of

from penstock.assignment import Arm, Experiment, settled
from penstock.control import decisions
from penstock.control.changes import Change, Moved, Removed, Weighed
from penstock.control.state import State
from penstock.control.wanted import wanted_of, wanted_versions
from penstock.errors import Conflict, InUse, MoveRefused, Unknown
from penstock.routing import NOTHING, Wanted
from penstock.testing import MemoryStore


def fees(blue: int, green: int = 0) -> Experiment:
    """Two arms, of versions 2 and 3."""
    return Experiment(
        id="fees", arms=(Arm(name="blue", version=2, weight=blue), Arm(name="green", version=3, weight=green))
    )


def weighed(*more: Change) -> State:
    """Four versions, 1 the champion, and an experiment."""
    versions = [published(number) for number in (1, 2, 3, 4)]
    champion = Moved(alias="champion", after=1)
    return state_of(*versions, champion, Weighed(after=settled(fees(1000, 500))), *more)


def here(state: State, without: tuple[int, ...] = (), before: Wanted = NOTHING) -> Wanted:
    """What is wanted where all versions but those `without` can be served."""
    numbers = wanted_versions(state.model("churn"), 0, before, "quay")
    paths = {"churn": {number: f"/bundles/{number}" for number in numbers if number not in without}}
    return wanted_of(state, paths, before=before, kept=0, node="quay")


def test_weights_are_events() -> None:
    """An experiment begins, changes and ends; each event has it whole before and after, with the arms' buckets."""
    state = state_of(published(1), Moved(alias="champion", after=1), published(2), published(3))
    [begun] = decisions.weigh(state, "churn", fees(1000))
    assert Weighed(after=settled(fees(1000))) == begun
    now = weighed()
    [raised] = decisions.weigh(now, "churn", fees(2000, 500))
    assert isinstance(raised, Weighed)
    assert settled(fees(2000, 500), settled(fees(1000, 500))) == raised.after
    assert now.model("churn").experiment == raised.before
    assert [] == decisions.weigh(now, "churn", fees(1000, 500))
    [ended] = decisions.weigh(now, "churn", None)
    assert Weighed(before=settled(fees(1000, 500))) == ended
    assert None is weighed(ended).model("churn").experiment
    assert [] == decisions.weigh(state, "churn", None)


def test_spans_that_are_sent_do_not_count() -> None:
    """Which buckets an arm owns is decided here, whatever a caller of the API says."""
    sent = msgspec.structs.replace(fees(7), arms=(Arm(name="blue", version=2, weight=7, spans=((0, 9999),)),))
    [change] = decisions.weigh(weighed(), "churn", sent)
    assert isinstance(change, Weighed)
    assert change.after is not None
    assert 7 == sum(end - first for first, end in change.after.arms[0].spans)


def test_what_cannot_be_weighed() -> None:
    """Versions and aliases that are not there, and weights that would move callers between arms."""
    state = weighed(Removed(version=4, digest=""))
    with pytest.raises(Unknown, match="no version 4"):
        decisions.weigh(state, "churn", Experiment(id="x", arms=(Arm(name="a", version=4),)))
    with pytest.raises(Unknown, match="no alias 'next' of 'churn' for the arm 'a'; there is champion"):
        decisions.weigh(state, "churn", Experiment(id="x", arms=(Arm(name="a", alias="next"),)))
    with pytest.raises(MoveRefused, match="the experiment of 'churn' stays as it is: salt and holdout"):
        decisions.weigh(state, "churn", msgspec.structs.replace(fees(1), holdout=3))


def test_a_version_of_an_arm_stays() -> None:
    """It is not removed while the experiment goes on."""
    with pytest.raises(InUse, match="an arm of the experiment answers by it: end the experiment first"):
        decisions.remove(weighed(), "churn", 3)
    assert decisions.remove(weighed(Weighed(before=settled(fees(1000, 500)))), "churn", 3)


def test_arms_are_wanted() -> None:
    """Their versions are loaded, and the table has the experiment; one that cannot be served is left out alone."""
    state = weighed()
    found = here(state).table.models["churn"]
    assert ([1, 2, 3], {"champion": 1}) == (sorted(found.versions), found.aliases)
    assert ({1, 2, 3}, state.model("churn").experiment) == (found.named, found.experiment)
    lost = here(state, without=(3,)).table.models["churn"]
    assert ({1, 2}, found.experiment) == (lost.named, lost.experiment)


def test_new_versions_are_judged_and_weights_are_not() -> None:
    """A version that becomes an arm is judged as an alias of that name is; raising it waits for nothing."""
    gate = PlainGate(soft=["worse"])
    control = control_of(MemoryStore(), gate)
    with pytest.raises(Unknown):
        control.weigh("churn", fees(1), ANA)
    for content in ("aa", "bb", "cc"):
        control.publish(_bundle(content), ANA)
    with pytest.raises(MoveRefused, match="version 2 of 'churn' does not become the arm 'blue'"):
        control.weigh("churn", fees(100), ANA)
    forced = msgspec.structs.replace(ANA, is_forced=True, reason="to see")
    [event] = control.weigh("churn", fees(100), forced)
    assert Weighed(after=settled(fees(100)), overruled=("worse", "worse")) == event.change
    gate.asked.clear()
    [event] = control.weigh("churn", fees(200), ANA)
    assert [] == gate.asked
    with pytest.raises(Conflict):
        control.weigh("churn", fees(300), msgspec.structs.replace(ANA, if_revision=event.revision - 1))
    assert [] == control.weigh("churn", fees(200), ANA)


def test_the_gate_asks_by_the_name_of_the_arm() -> None:
    """So that rules of the alias `canary` hold for an arm `canary`."""
    gate = PlainGate()
    control = control_of(MemoryStore(), gate)
    for content in ("aa", "bb", "cc"):
        control.publish(_bundle(content), ANA)
    control.weigh("churn", fees(100), ANA)
    assert [("churn", "blue", 2), ("churn", "green", 3)] == gate.asked


def _bundle(content: str) -> Path:
    return Path("churn") / content
