"""What commands change, decided on plain states; and the commands on a store, where others are faster."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from states import ANA, FIRST, Clock, PlainGate, control_of, events_of, published, state_of

from penstock.control import decisions
from penstock.control.changes import (
    Change,
    Configured,
    Erased,
    Event,
    ModelConfig,
    Moved,
    Removed,
    Rules,
    Serving,
    Tried,
    Who,
)
from penstock.control.control import By, Control
from penstock.control.state import EMPTY, State, after, folded
from penstock.errors import Conflict, InUse, MoveRefused, Unknown
from penstock.routing import FallbackOptions, ModelOptions
from penstock.testing import MemoryStore

FORCED = By(who=Who("ana@quay"), reason="the old one is wrong", is_forced=True)


def deployed(*numbers: int, versions: int = 3) -> State:
    """Versions 1 to `versions`, and the champions one after the other."""
    changes: list[Change] = [published(number) for number in range(1, versions + 1)]
    before = None
    for number in numbers:
        changes.append(Moved(alias="champion", before=before, after=number))
        before = number
    return state_of(*changes)


def test_the_first_version_is_the_champion() -> None:
    """The first bundle of a model becomes its champion, later ones do not by themselves."""
    first = decisions.publish(EMPTY, "churn", published(0, "sha256:aa"))
    assert [published(1, "sha256:aa"), Moved(alias="champion", after=1)] == first
    assert [published(2, "sha256:bb")] == decisions.publish(state_of(*first), "churn", published(0, "sha256:bb"))


def test_the_same_content_is_published_once() -> None:
    """A bundle of the same content digest changes nothing; once it was removed, it is a new version."""
    state = state_of(published(1), Moved(alias="champion", after=1), published(2))
    assert [] == decisions.publish(state, "churn", published(0, published(2).digest))
    state = after(state, msgspec.structs.replace(events_of([Removed(version=2, digest="")])[0], revision=4))
    [again] = decisions.publish(state, "churn", published(0, published(2).digest))
    assert published(3, published(2).digest) == again


def test_what_is_no_number_is_no_metric() -> None:
    """A metric that is not finite, which no event could carry, is left out of it."""
    metrics = {"roc_auc": 0.9, "r2": float("nan"), "mae": float("inf")}
    first = decisions.publish(EMPTY, "churn", published(0, metrics=metrics))
    assert {"roc_auc": 0.9} == msgspec.to_builtins(first[0])["metrics"]


def test_a_move_says_what_was_before() -> None:
    """An alias moves from what it named; where it names the version already, nothing changes."""
    state = deployed(1)
    assert [Moved(alias="champion", before=1, after=2)] == decisions.move(state, "churn", "champion", 2)
    assert [Moved(alias="blue", after=1, overruled=("x",))] == decisions.move(
        state, "churn", "blue", 1, overruled=["x"]
    )
    assert [] == decisions.move(state, "churn", "champion", 1) == decisions.move(state, "churn", "blue", None)


@pytest.mark.parametrize(("number", "said"), [(4, "no version 4 of 'churn'; there is 1, 2, 3"), (0, "no version 0")])
def test_a_version_that_is_not_there_is_named(number: int, said: str) -> None:
    """A move to what is not there says what there is."""
    with pytest.raises(Unknown, match=said):
        decisions.move(deployed(1), "churn", "champion", number)
    with pytest.raises(Unknown, match="no model 'chrun'; there is churn"):
        decisions.move(deployed(1), "chrun", "champion", 1)


def test_a_model_keeps_a_champion() -> None:
    """The champion is not taken away: a model would answer nobody."""
    with pytest.raises(InUse, match="deploy another version"):
        decisions.move(deployed(1), "churn", "champion", None)
    with pytest.raises(InUse, match="deploy another version"):
        decisions.archive(deployed(1), "churn", 1)


def test_archived_takes_every_alias_away() -> None:
    """Archiving a version takes away each alias that names it, and no other."""
    state = state_of(
        published(1), Moved(alias="champion", after=1), published(2),
        Moved(alias="blue", after=2), Moved(alias="candidate", after=2), Moved(alias="green", after=1),
    )  # fmt: skip
    expected = [Moved(alias="blue", before=2), Moved(alias="candidate", before=2)]
    assert expected == decisions.archive(state, "churn", 2)


@given(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=30))
def test_rollback_goes_back_as_a_stack(steps: list[int]) -> None:
    """Deploys push and rollbacks pop, as often as there is something to go back to; 0 stands for a rollback."""
    state = state_of(published(1), Moved(alias="champion", after=1), published(2), published(3))
    stack = [1]
    for step in steps:
        if step == 0 and len(stack) == 1:
            with pytest.raises(Unknown, match="nothing to go back to"):
                decisions.rollback(state, "churn")
            continue
        found = decisions.rollback(state, "churn") if step == 0 else decisions.move(state, "churn", "champion", step)
        if step == 0:
            stack.pop()
        elif step != stack[-1]:
            stack.append(step)
        state = with_changes(state, found)
        model = state.model("churn")
        assert (stack[-1], tuple(stack)) == (model.aliases["champion"], model.champions)


def with_changes(state: State, changes: list[Change]) -> State:
    """The state after these changes, too."""
    events = [
        Event(revision=number, at=FIRST + timedelta(seconds=number), who=ANA.who, model="churn", change=change)
        for number, change in enumerate(changes, state.revision + 1)
    ]
    return folded(events, state)


def test_rollback_passes_over_what_was_removed() -> None:
    """A former champion that was removed is no place to go back to."""
    state = with_changes(deployed(1, 2, 3), decisions.remove(deployed(1, 2, 3), "churn", 1))
    assert (2, 3) == state.model("churn").champions
    state = with_changes(deployed(2, 1, 2, 3), decisions.remove(deployed(2, 1, 2, 3), "churn", 1))
    assert [Moved(alias="champion", before=3, after=2, is_rollback=True)] == decisions.rollback(state, "churn")


def test_nothing_that_is_used_is_removed() -> None:
    """A version stays while an alias, a rollback, a fallback or a machine needs it; each is named."""
    fallback = ModelConfig(options=ModelOptions(fallback=FallbackOptions(kind="version", version=3)))
    state = with_changes(
        deployed(1, 2, versions=5),
        [Configured(before=ModelConfig(), after=fallback), Serving(node="quay", after={"champion": 4})],
    )
    said = {
        2: "it is champion: move the alias first", 1: "`penstock rollback churn` would go back to it",
        3: "the declared fallback answers by it", 4: "the machine quay still answers by it",
    }  # fmt: skip
    for number, why in said.items():
        with pytest.raises(InUse, match=why):
            decisions.remove(state, "churn", number)
    assert [Removed(version=5, digest=published(5).digest)] == decisions.remove(state, "churn", 5)
    assert [Removed(version=4, digest=published(4).digest)] == decisions.remove(state, "churn", 4, is_forced=True)
    with pytest.raises(InUse, match="it is champion"):
        decisions.remove(state, "churn", 2, is_forced=True)


def test_what_was_removed_is_said_to_be() -> None:
    """A removed version is not there, and its number is not given again."""
    state = with_changes(deployed(1), decisions.remove(deployed(1), "churn", 3))
    with pytest.raises(Unknown, match=r"no version 3 of 'churn' \(it was removed\); there is 1, 2"):
        decisions.remove(state, "churn", 3)
    assert 4 == state.model("churn").next_version


def test_what_machines_see_is_noted_once() -> None:
    """Trials and answers that the state says already, or of versions that are gone, are no events."""
    passed, failed = Tried(version=2, node="quay"), Tried(version=2, node="quay", why="no room")
    state = with_changes(deployed(1), [passed])
    assert [] == decisions.note(state, "churn", passed)
    assert [failed] == decisions.note(state, "churn", failed)
    state = with_changes(state, [failed])
    assert [] == decisions.note(state, "churn", failed)
    assert [passed] == decisions.note(state, "churn", passed)
    assert [] == decisions.note(state, "churn", Tried(version=9, node="quay"))
    assert [] == decisions.note(EMPTY, "iris", Serving(node="quay"))
    serving = Serving(node="quay", before={"a": 1}, after={"champion": 1})
    assert [Serving(node="quay", after={"champion": 1})] == decisions.note(state, "churn", serving)


def test_what_machines_see_leaves_the_revision_alone() -> None:
    """Whoever read a model's revision may insist on it although a machine has tried or begun something since, or
    records of it were erased.
    """
    state = deployed(1)
    seen = [Tried(version=1, node="quay"), Serving(node="quay", after={"champion": 1}), Erased(node="quay", records=1)]
    noted = with_changes(state, seen)
    assert (state.revision + 3, state.revision) == (noted.revision, noted.model("churn").revision)
    decisions.require_revision(noted, "churn", state.revision)
    with pytest.raises(Conflict, match=f"'churn' is at revision {state.revision}, and you had read 1"):
        decisions.require_revision(noted, "churn", 1)
    decisions.require_revision(noted, "iris", 0)


def test_a_fallback_must_be_there() -> None:
    """A configuration whose fallback is a version that there is not is refused."""
    config = ModelConfig(options=ModelOptions(fallback=FallbackOptions(kind="version", version=7)))
    with pytest.raises(Unknown, match="no version 7"):
        decisions.configure(deployed(1), "churn", config)
    assert [] == decisions.configure(deployed(1), "churn", ModelConfig())


def test_events_that_do_not_follow_are_refused() -> None:
    """A missing or repeated event, or one of a version that there is not, is no state."""
    events = events_of([published(1), Moved(alias="champion", after=1)])
    for wrong in (events[1:], [events[0], events[0]]):
        with pytest.raises(ValueError, match="one is missing or twice"):
            folded(wrong)
    with pytest.raises(ValueError, match="event 1 is of version 7 of 'churn', which there is not"):
        folded(events_of([Moved(alias="champion", after=7)]))


def two_versions(gate: PlainGate | None = None) -> tuple[Control, MemoryStore]:
    """A model of two versions, the first its champion."""
    store = MemoryStore()
    control = control_of(store, gate)
    for content in ("aa", "bb"):
        control.publish(Path("churn") / content, ANA)
    return control, store


def test_a_refused_move_changes_nothing() -> None:
    """What speaks against a move is in the refusal, and the alias stays."""
    control, _ = two_versions(PlainGate(soft=["roc_auc is 0.7", "field `x` is new and is required"]))
    with pytest.raises(MoveRefused) as refused:
        control.deploy("churn", 2, ANA)
    assert ["roc_auc is 0.7", "field `x` is new and is required"] == refused.value.reasons
    assert "does not move to version 2" in str(refused.value)
    assert "--force with a --reason" in str(refused.value)
    assert {"champion": 1} == control.state().model("churn").aliases


def test_force_needs_a_reason_and_is_kept() -> None:
    """Overruled reasons stand in the history; without a reason --force overrules nothing."""
    control, _ = two_versions(PlainGate(soft=["roc_auc is 0.7"]))
    with pytest.raises(MoveRefused):
        control.deploy("churn", 2, By(who=ANA.who, is_forced=True))
    [event] = control.deploy("churn", 2, FORCED)
    assert Moved(alias="champion", before=1, after=2, overruled=("roc_auc is 0.7",)) == event.change
    assert "the old one is wrong" == event.reason


def test_what_does_not_load_is_not_forced() -> None:
    """A version that cannot be loaded here does not become champion whatever is said."""
    control, _ = two_versions(PlainGate(final=["version 2 cannot be served here: golden rows differ"]))
    with pytest.raises(MoveRefused, match="golden rows differ") as refused:
        control.deploy("churn", 2, FORCED)
    assert not refused.value.may_force


def test_a_move_is_judged_again_after_a_change() -> None:
    """What was found against a champion that has been replaced meanwhile does not count: it is asked again."""
    gate = PlainGate()
    control, store = two_versions(gate)
    other = control_of(store)
    other.publish(Path("churn/cc"), ANA)
    changes = [lambda: None, lambda: other.deploy("churn", 3, ANA)]
    gate.meanwhile = lambda: changes.pop()() if changes else None
    [event] = control.deploy("churn", 2, ANA)
    assert Moved(alias="champion", before=3, after=2) == event.change
    assert 2 == len(gate.asked)


def test_of_two_operators_the_second_is_told() -> None:
    """Whoever insists on the revision that he read does not overwrite what he has not seen."""
    control, store = two_versions()
    read = control.state().model("churn").revision
    control_of(store).configure("churn", ModelConfig(options=ModelOptions(is_lazy=True)), ANA)
    with pytest.raises(Conflict, match="look at what was changed"):
        control.deploy("churn", 2, By(who=ANA.who, if_revision=read))
    assert {"champion": 1} == control.state().model("churn").aliases


def test_the_insistent_is_not_turned_away_by_the_trial() -> None:
    """The trial of the version, which is an event, is no change that somebody made."""
    gate = PlainGate()
    control, _ = two_versions(gate)
    gate.meanwhile = lambda: control.note("churn", Tried(version=2, node="quay"), Who("penstock", is_verified=True))
    by = By(who=ANA.who, if_revision=control.state().model("churn").revision)
    assert 1 == len(control.deploy("churn", 2, by))


def test_stages_are_spellings() -> None:
    """Production is champion, Staging is candidate, Archived is no alias."""
    control, _ = two_versions()
    control.move("churn", "Production", 2, ANA)
    control.move("churn", "Staging", 1, ANA)
    assert {"champion": 2, "candidate": 1} == control.state().model("churn").aliases
    control.move("churn", "Archived", 1, ANA)
    assert {"champion": 2} == control.state().model("churn").aliases


def test_times_never_run_backwards() -> None:
    """A clock that is set back gives events whose times are still in order."""
    clock = Clock()
    control = control_of(MemoryStore(), clock=clock)
    control.publish(Path("churn/aa"), ANA)
    clock.pass_s(-3600)
    control.publish(Path("churn/bb"), ANA)
    times = [event.at for event in control.events()]
    assert sorted(set(times)) == times


def test_what_does_not_fit_is_not_declared() -> None:
    """A configuration that versions with an alias cannot keep to is refused; rules alone are asked of none."""
    gate = PlainGate()
    control, _ = two_versions(gate)
    gate.unfit.add(1)
    with pytest.raises(MoveRefused, match="what is declared of 'churn' stays as it is: 1 does not fit") as refused:
        control.configure("churn", ModelConfig(options=ModelOptions(is_lazy=True)), ANA)
    assert not refused.value.may_force
    assert 1 == len(control.configure("churn", ModelConfig(rules={"champion": Rules(floors={"f1": 0.5})}), ANA))


def test_no_way_back_to_what_does_not_fit() -> None:
    """A rollback asks for no trial, and is refused where what was declared since does not fit the version before."""
    gate = PlainGate()
    control, _ = two_versions(gate)
    control.deploy("churn", 2, ANA)
    gate.unfit.add(1)
    asked = len(gate.asked)
    with pytest.raises(MoveRefused, match="does not go back to version 1: 1 does not fit"):
        control.rollback("churn", ANA)
    gate.unfit.clear()
    assert [Moved(alias="champion", before=2, after=1, is_rollback=True)] == [
        event.change for event in control.rollback("churn", ANA)
    ]
    assert asked == len(gate.asked)
