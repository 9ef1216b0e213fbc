"""What a rollout does next: abort before hold, hold before going on, and never a pass without evidence."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.rollout.declared import Plan
from penstock.rollout.evidence import Evidence
from penstock.rollout.guardrails import Watched
from penstock.rollout.plan import Action, Findings, Reason, Snapshot, following, next_action
from penstock.rollout.reading import Reading

PLAN = Plan(steps=(5, 50, 100), step_s=60)
OPEN = Evidence.of(Watched()).readings()


def read(**states: str) -> tuple[Reading, ...]:
    """Readings of which the hard ones are proven and the soft ones fine, but for those in `states`."""
    usual = {"hard": "proven", "soft": "ok"}
    return tuple(msgspec.structs.replace(one, state=states.get(one.name, usual[one.kind])) for one in OPEN)


def step(**changes: object) -> Snapshot:
    """A step that may be left."""
    fine = Snapshot(plan=PLAN, stage="step", stage_s=61.0, readings=read(), canary_n=700)
    return msgspec.structs.replace(fine, **changes)


def verdict(now: Snapshot) -> tuple[str, list[str]]:
    """What is done, and the codes of why."""
    action = next_action(now)
    return action.verdict, [one.code for one in action.why]


def test_a_proven_step_is_left_after_its_time() -> None:
    """It waits for its seconds, then goes on, and after the last step the version is champion."""
    assert ("wait", ["time"]) == verdict(step(stage_s=59.0))
    assert "advance" == next_action(step()).verdict
    assert "promote" == next_action(step(step=2)).verdict


def test_a_step_lasts_until_its_requests_are_read() -> None:
    """What the log has and nobody has read yet is no evidence, for going on as for a hold; an abort does not wait."""
    assert ("wait", ["behind"]) == verdict(step(behind_s=2.0))
    assert ("wait", ["behind", "no_evidence"]) == verdict(step(behind_s=2.0, canary_n=0))
    assert ("advance", "abort") == (
        next_action(step(behind_s=0.5)).verdict,
        next_action(step(behind_s=2.0, readings=read(error="alarm"))).verdict,
    )


def test_a_hard_alarm_aborts_whatever_else_there_is() -> None:
    """Also while it is held by hand, and before the step's time."""
    alarmed = step(readings=read(error="alarm", slow="alarm"), stage_s=1.0, held_by="ada: looking")
    assert ("abort", ["error"]) == verdict(alarmed)


def test_a_soft_alarm_holds_until_it_is_accepted() -> None:
    """A person who has seen it lets it pass; then it holds no more."""
    alarmed = step(readings=read(slow="alarm"))
    assert ("hold", ["slow"]) == verdict(alarmed)
    assert "advance" == next_action(msgspec.structs.replace(alarmed, accepted=frozenset({"slow"}))).verdict


def test_no_traffic_is_never_a_pass_and_never_an_abort() -> None:
    """A step without a request of the canary is held, however long it lasts; so is one that nobody could see."""
    for stage_s in (61.0, 1e9):
        assert ("hold", ["no_evidence"]) == verdict(step(canary_n=0, stage_s=stage_s))
        assert ("hold", ["no_evidence"]) == verdict(step(canary_n=0, stage_s=stage_s, readings=OPEN))
    assert ("wait", ["time", "no_evidence"]) == verdict(step(canary_n=0, stage_s=1.0))


def test_what_is_not_proven_is_waited_for_and_then_inconclusive() -> None:
    """It says how many requests are needed; at the step's most it is held."""
    action = next_action(step(readings=read(error="open")))
    assert ("wait", ["unproven"]) == (action.verdict, [one.code for one in action.why])
    assert f"about {OPEN[0].needed:,} more requests" in action.why[0].text
    assert ("hold", ["inconclusive"]) == verdict(step(readings=read(error="open"), canary_n=PLAN.step_requests))


def test_at_all_of_the_calls_there_is_no_champion_to_compare_with() -> None:
    """The last full step lasts its time; what it needed was proven before."""
    last = step(step=2, canary_n=0, readings=OPEN)
    assert "promote" == next_action(last).verdict
    assert ("wait", ["time"]) == verdict(msgspec.structs.replace(last, stage_s=1.0))
    only = Plan(steps=(100,), step_s=0)
    assert ("hold", ["no_evidence"]) == verdict(step(plan=only, canary_n=0))


def test_a_person_approves_the_last_step() -> None:
    """Where the plan asks for it, everything proven is still not enough."""
    asked = step(plan=msgspec.structs.replace(PLAN, has_approval=True), step=2)
    assert ("hold", ["approval"]) == verdict(asked)
    assert "promote" == next_action(msgspec.structs.replace(asked, is_approved=True)).verdict


def test_replay_goes_on_when_it_is_done() -> None:
    """Errors abort it, what cannot be done holds it, and no recorded traffic is said to be none."""
    replay = Snapshot(plan=PLAN, stage="replay")
    assert ("wait", ["replay"]) == verdict(replay)
    done = Findings(rows=1000, flips=30, is_done=True)
    assert "advance" == next_action(msgspec.structs.replace(replay, findings=done)).verdict
    bad = msgspec.structs.replace(done, errors=1)
    assert ("abort", ["replay_errors"]) == verdict(msgspec.structs.replace(replay, findings=bad))
    failed = Findings(failure="no such column")
    assert ("hold", ["replay_failed"]) == verdict(msgspec.structs.replace(replay, findings=failed))
    nothing = next_action(msgspec.structs.replace(replay, findings=Findings(is_done=True)))
    assert Action("advance", (Reason("replay", "no recorded traffic to score: nothing is known from it"),)) == nothing


def test_a_shadow_needs_its_pairs() -> None:
    """However long it takes; each error aborts unless the plan allows some."""
    shadow = Snapshot(plan=PLAN, stage="shadow", stage_s=1e9)
    assert ("wait", ["shadow"]) == verdict(shadow)
    assert ("wait", ["shadow"]) == verdict(msgspec.structs.replace(shadow, findings=Findings(rows=999)))
    assert "advance" == next_action(msgspec.structs.replace(shadow, findings=Findings(rows=1000))).verdict
    bad = Findings(rows=10, errors=1)
    assert ("abort", ["shadow_errors"]) == verdict(msgspec.structs.replace(shadow, findings=bad))


def test_stages_follow_each_other() -> None:
    """Replay, shadow, then each step; those that a plan leaves out are passed by."""
    assert ("replay", 0) == following(PLAN, None)
    assert ("shadow", 0) == following(PLAN, "replay")
    assert ("step", 0) == following(PLAN, "shadow")
    assert ("step", 2) == following(PLAN, "step", 1)
    with pytest.raises(ValueError, match="no step after"):
        following(PLAN, "step", 2)
    assert ("step", 0) == following(msgspec.structs.replace(PLAN, replay=None, shadow=None), None)


@pytest.mark.parametrize("steps", [(), (5, 5), (50, 20), (5, 101), (0, 50), (-1,)])
def test_steps_rise(steps: tuple[float, ...]) -> None:
    """Steps that do not rise, or go beyond all of the calls, are refused, and so is what no plan has."""
    with pytest.raises(ValueError, match="Expected `steps`"):
        Plan(steps=steps)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"stepps": [1]}, Plan)


@given(
    states=st.tuples(*(st.sampled_from(["alarm", "proven", "open"]) for _ in range(3))),
    soft=st.sampled_from(["ok", "alarm"]),
    canary_n=st.integers(0, 100_000),
    stage_s=st.floats(0, 1e6),
    behind_s=st.sampled_from([0.0, 0.3, 50.0]),
    at=st.integers(0, 2),
    held=st.booleans(),
)
def test_it_never_goes_on_without_all_that_it_needs(
    states: tuple[str, ...], soft: str, canary_n: int, stage_s: float, behind_s: float, at: int, held: bool
) -> None:
    """For any state of the evidence: going on means proven, unheld, in time, and with requests seen."""
    hard = [one.name for one in OPEN if one.kind == "hard"]
    now = step(
        readings=read(**dict(zip(hard, states, strict=True)), slow=soft),
        canary_n=canary_n,
        stage_s=stage_s,
        behind_s=behind_s,
        step=at,
        held_by="ada" if held else None,
    )
    goes_on = next_action(now).verdict in ("advance", "promote")
    is_full = at == 2
    may = all([
        "alarm" not in states,
        soft == "ok",
        not held,
        stage_s - behind_s >= PLAN.step_s,
        is_full or (canary_n > 0 and "open" not in states),
    ])  # fmt: skip
    assert may == goes_on


def test_the_same_snapshot_gives_the_same_action() -> None:
    """The decision is a function of the snapshot alone."""
    for stage_s, canary_n in itertools.product((0.0, 100.0), (0, 10)):
        now = step(stage_s=stage_s, canary_n=canary_n)
        assert next_action(now) == next_action(msgspec.structs.replace(now))
