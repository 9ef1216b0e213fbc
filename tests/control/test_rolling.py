"""Rollouts as part of the state: begun, carried on, told by persons, ended; weights and aliases go along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from states import ANA, PlainGate, control_of, events_of, published

from penstock.assignment import Arm, Experiment
from penstock.control import rollout_decisions
from penstock.control.changes import Change, Moved, Rolled
from penstock.control.control import By
from penstock.control.rollouts import RolloutState
from penstock.control.state import State, folded
from penstock.errors import InUse, MoveRefused, Unknown
from penstock.rollout.declared import Plan
from penstock.rollout.plan import Action, Reason
from penstock.testing import MemoryStore

PLAN = Plan(steps=(5, 50), replay=None, shadow=None)
WHOLE = Plan(steps=(5, 50))
LATE = Action("advance", (Reason("requests", "700 requests"),))
BAD = Action("abort", (Reason("error", "too many"),))


def after(changes: Sequence[Change], state: State) -> State:
    """The state after more changes of `churn`."""
    events = events_of(changes)
    later = [msgspec.structs.replace(one, revision=state.revision + one.revision) for one in events]
    return folded(later, state)


def fresh() -> State:
    """Three versions, of which 1 is the champion."""
    return folded(events_of([published(1), Moved(alias="champion", after=1), published(2), published(3)]))


def begun(plan: Plan = PLAN) -> State:
    """A rollout of version 2."""
    return after(rollout_decisions.start(fresh(), "churn", 2, plan), fresh())


def rollout_of(state: State) -> RolloutState:
    """The rollout of `churn`."""
    found = state.model("churn").rollout
    assert found is not None
    return found


def roll(state: State, action: Action, **told: int) -> State:
    """The state after a verdict."""
    return after(rollout_decisions.roll(state, "churn", rollout_of(state).id, action, **told), state)


def weight(state: State) -> int:
    """How many buckets the canary has."""
    experiment = state.model("churn").experiment
    return 0 if experiment is None else sum(arm.weight for arm in experiment.arms)


def test_a_rollout_goes_up_the_ladder() -> None:
    """Each step is one event with the weights beside it; in the end the version is champion and nothing is divided."""
    state = begun()
    assert ("step", 0, 500) == (rollout_of(state).stage, rollout_of(state).step, weight(state))
    state = roll(state, LATE, canary_n=700)
    assert (1, 5000, 700) == (rollout_of(state).step, weight(state), rollout_of(state).canary_n)
    state = roll(state, Action("promote"))
    assert ("promoted", 0, 2) == (rollout_of(state).status, weight(state), state.model("churn").aliases["champion"])
    assert 1 == state.model("churn").rollback_to


def test_the_shadow_has_its_alias_for_its_stage_only() -> None:
    """Replay, then the alias `shadow`, then the first weight."""
    state = begun(WHOLE)
    assert ("replay", {"champion": 1}) == (rollout_of(state).stage, state.model("churn").aliases)
    state = roll(state, LATE)
    assert ("shadow", {"champion": 1, "shadow": 2}) == (rollout_of(state).stage, state.model("churn").aliases)
    aborted = roll(state, BAD)
    assert {"champion": 1} == aborted.model("churn").aliases
    state = roll(state, LATE)
    assert ("step", {"champion": 1}, 500) == (rollout_of(state).stage, state.model("churn").aliases, weight(state))


def test_an_abort_gives_all_calls_back_and_is_remembered() -> None:
    """The same contents are refused again unless forced; others are not; a promotion forgets it."""
    state = roll(begun(), BAD)
    assert ("aborted", 0, {"champion": 1}) == (
        rollout_of(state).status, weight(state), state.model("churn").aliases,
    )  # fmt: skip
    with pytest.raises(MoveRefused, match="rolled back before: .*too many"):
        rollout_decisions.start(state, "churn", 2, PLAN)
    assert rollout_decisions.start(state, "churn", 3, PLAN)
    again = after(rollout_decisions.start(state, "churn", 2, PLAN, is_forced=True), state)
    assert {} == roll(roll(again, LATE), Action("promote")).model("churn").aborted


def test_what_cannot_be_started() -> None:
    """The champion, what there is not, a second rollout, and one beside an experiment of a person."""
    with pytest.raises(MoveRefused, match="champion already"):
        rollout_decisions.start(fresh(), "churn", 1, PLAN)
    with pytest.raises(Unknown):
        rollout_decisions.start(fresh(), "churn", 9, PLAN)
    with pytest.raises(InUse, match="under way"):
        rollout_decisions.start(begun(), "churn", 3, PLAN)


def test_verdicts_of_another_time_change_nothing() -> None:
    """What was decided of a rollout that has ended, or of an earlier one, is not carried out."""
    state = begun()
    assert [] == rollout_decisions.roll(state, "churn", "churn-2-0", BAD)
    ended = roll(state, BAD)
    assert [] == rollout_decisions.roll(ended, "churn", rollout_of(ended).id, LATE)


def test_a_person_is_faster_than_a_decision_to_go_on() -> None:
    """What was decided before somebody held it, or gave the champion's place away, is not carried out; an abort is."""
    state = begun()
    held = after(rollout_decisions.told(state, "churn", "hold", "freeze"), state)
    moved = after([Moved(alias="champion", before=1, after=3)], state)
    for now in (held, moved):
        for action in (LATE, Action("promote")):
            assert [] == rollout_decisions.roll(now, "churn", rollout_of(now).id, action)
        assert "aborted" == rollout_of(roll(now, BAD)).status


def test_nobody_else_weighs_or_removes_under_way() -> None:
    """While it goes on its version stays, and the weights are its own; afterwards both are free."""
    control = control_of(MemoryStore(), PlainGate())
    for content in ("a", "b"):
        control.publish(Path("churn") / content, ANA)
    control.start_rollout("churn", 2, WHOLE, ANA)
    other = Experiment(id="other", arms=(Arm(name="blue", version=2, weight=100),))
    with pytest.raises(InUse, match="`penstock rollout abort churn` ends it"):
        control.weigh("churn", other, ANA)
    with pytest.raises(InUse, match="its rollout is under way"):
        control.remove("churn", 2, ANA)
    control.roll("churn", ANA, lambda state: rollout_decisions.told(state, "churn", "abort", "wrong"))
    assert control.weigh("churn", other, ANA)
    assert control.weigh("churn", None, ANA)
    assert control.remove("churn", 2, ANA)


def test_a_hold_is_told_once() -> None:
    """As long as it holds for the same reasons it makes no events; when it ends, one."""
    hold = Action("hold", (Reason("slow", "5 of 20"),))
    state = roll(begun(), hold)
    assert ("slow",) == rollout_of(state).held
    assert [] == rollout_decisions.roll(state, "churn", rollout_of(state).id, hold)
    freed = roll(state, Action("wait"))
    assert () == rollout_of(freed).held
    assert [] == rollout_decisions.roll(freed, "churn", rollout_of(freed).id, Action("wait"))


def test_persons_hold_resume_approve_and_end() -> None:
    """Each with its reason; a second hold changes nothing; the weights stay while it is held."""
    state = begun()
    state = after(rollout_decisions.told(state, "churn", "hold", "freeze"), state)
    assert ("ana@quay: freeze", 500) == (rollout_of(state).held_by, weight(state))
    assert [] == rollout_decisions.told(state, "churn", "hold", "freeze")
    state = after(rollout_decisions.told(state, "churn", "resume", "over"), state)
    assert None is rollout_of(state).held_by
    assert [] == rollout_decisions.told(state, "churn", "resume", "over")
    state = after(rollout_decisions.told(state, "churn", "approve", "seen"), state)
    assert rollout_of(state).is_approved
    promoted = after(rollout_decisions.told(state, "churn", "promote", "urgent"), state)
    assert (2, 0) == (promoted.model("churn").aliases["champion"], weight(promoted))
    aborted = after(rollout_decisions.told(state, "churn", "abort", "wrong"), state)
    assert (1, 0) == (aborted.model("churn").aliases["champion"], weight(aborted))
    with pytest.raises(Unknown, match="no rollout under way; the last one, of version 2, was aborted"):
        rollout_decisions.told(aborted, "churn", "resume", "again")


def test_resuming_accepts_what_held_it() -> None:
    """The soft alarm that held it does not hold it again."""
    state = roll(begun(), Action("hold", (Reason("slow", "5 of 20"),)))
    state = after(rollout_decisions.told(state, "churn", "resume", "a slower machine"), state)
    assert frozenset({"slow"}) == rollout_of(state).accepted


def test_the_gate_is_asked_before() -> None:
    """What may not be champion gets no rollout, unless forced with a reason where that may be overruled."""
    control = control_of(MemoryStore(), PlainGate(soft=["auc is below 0.8"]))
    for content in ("a", "b"):
        control.publish(Path("churn") / content, ANA)
    with pytest.raises(MoveRefused, match="auc is below"):
        control.start_rollout("churn", 2, PLAN, ANA)
    forced = By(who=ANA.who, reason="known", is_forced=True)
    events = control.start_rollout("churn", 2, PLAN, forced)
    assert [Rolled, "known"] == [type(events[0].change), events[0].reason]
