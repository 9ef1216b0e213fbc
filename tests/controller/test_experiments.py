"""A/B tests judged by what the log says: what can be told of each arm, what cannot be yet, and what is decided."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.assignment import Arm, Experiment, Goal
from penstock.audit import Record
from penstock.audit.readers import Readers
from penstock.control.answers import ArmAnswer
from penstock.control.changes import Weighed
from penstock.control.experiments import evidence_id, watched_of
from penstock.controller.assemble import Plane
from penstock.controller.judging import path_of
from penstock.errors import Unknown
from penstock.jobs.observing import Observer, value_of
from penstock.rollout.evidence import Evidence
from planes import ANA, plane_of, settings_of
from records import AT, answered, write
from variants import variant

BLUE, GREEN = 3000, 2000
CONVERSION = Goal(metric="conversion", equals="yes", label_delay_s=60.0)


@pytest.fixture
def plane(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Plane]:
    """`iris` in three versions; the first one is its champion."""
    with plane_of(settings_of(tmp_path / "home")) as made:
        (tmp_path / "home" / "audit").mkdir(parents=True)
        for bundle in (bundles["iris"], *(variant(bundles["iris"], tmp_path / "variants", n) for n in (5, 6))):
            made.operations.publish(bundle, ANA)
        yield made


def experiment(goal: Goal | None = CONVERSION, **changes: Any) -> Experiment:
    arms = (Arm(name="blue", version=2, weight=BLUE), Arm(name="green", version=3, weight=GREEN))
    return Experiment(**{"id": "fees", "arms": arms, "goal": goal, **changes})


def calls(
    count: int, *, begin: int = 0, blue: float = 0.5, others: float = 0.2, errors: float = 0.0
) -> Iterator[Record]:
    """Calls one second apart and what came true of each: the arms convert at these rates, and `blue` errs."""
    chance = random.Random(begin + 1)
    weights = {"champion": 10_000 - BLUE - GREEN, "blue": BLUE, "green": GREEN}
    for number in range(begin, begin + count):
        arm = chance.choices(list(weights), list(weights.values()))[0]
        at = AT + timedelta(seconds=number)
        of = {"model": "iris", "at": at, "key": None, "experiment": "fees", "arm": arm, "weights": weights}
        if arm == "blue" and chance.random() < errors:
            yield answered(number, **of, kind="failure", code="model_failed", outputs=None)
            continue
        yield answered(number, **of)
        is_yes = chance.random() < (blue if arm == "blue" else others)
        said = [{"index": 0, "actual": "yes" if is_yes else "no"}]
        yield answered(number, kind="feedback", model="iris", at=at + timedelta(seconds=5), key=None, input=said)


def judged(plane: Plane, *records: Record, home: str) -> dict[str, ArmAnswer]:
    """The arms after these records."""
    plane.experiments.look()  # evidence begins with what comes after this
    write(Path(home) / "audit", records)
    until_s = time.monotonic() + 0.15  # what the log's directories hold is believed for 50 ms
    is_read = False
    while not is_read or time.monotonic() < until_s:
        plane.experiments.look()
        arms = plane.experiments.answer("iris").arms
        is_read = all(arm.judged is not None and not arm.judged.lag.records for arm in arms)
    return {arm.name: arm for arm in plane.experiments.answer("iris").arms}


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "home")


def test_a_difference_is_told_where_there_is_one(plane: Plane, home: str) -> None:
    """Blue converts 30 points more: told, with an interval around that; of green, which is as good, it is not."""
    plane.operations.weigh("iris", experiment(), ANA)
    arms = judged(plane, *calls(1500), home=home)
    blue, green = arms["blue"], arms["green"]
    assert blue.difference is not None and blue.difference.lower is not None and blue.difference.upper is not None
    assert blue.difference.lower < 0.3 < blue.difference.upper
    assert (True, 0) == (blue.is_told, blue.needed)
    assert blue.said.startswith("can be told: conversion is higher by 0.")
    assert 0.025 == blue.difference.alpha  # of two arms together 5 %
    assert (False, []) == (green.is_told, green.alarms)
    assert green.said.startswith("cannot be told yet")
    assert green.judged is not None and blue.judged is not None
    assert green.judged.champion_n == blue.judged.champion_n


def test_how_much_more_it_takes(plane: Plane, home: str) -> None:
    """Too few calls, or a difference that is too small: about how many more, and how long at the present rate."""
    plane.operations.weigh("iris", experiment(), ANA)
    few = judged(plane, *calls(100), home=home)["blue"]
    assert few.difference is not None
    assert None is few.difference.lower
    assert few.said.startswith("cannot be told yet: about ")
    assert few.said.endswith("too few of one of them for an interval")
    some = judged(plane, *calls(900, begin=100, blue=0.3), home=home)["blue"]
    assert some.needed is not None and some.days is not None
    assert 0 < some.needed < 100_000
    assert f"about {some.needed:,} more calls of the two, " in some.said
    # one call a second, of which this arm and the champion have 80 %
    assert some.days == pytest.approx(some.needed / 0.8 / 86_400, rel=0.15)


def test_an_arm_that_errs_is_stopped(plane: Plane, home: str) -> None:
    """Its weight goes to the champion, with the reason in the history; the other arm keeps its own; raised again it is
    stopped again.
    """
    plane.operations.weigh("iris", experiment(), ANA)
    judged(plane, *calls(300, errors=0.3), home=home)
    now = plane.control.state().model("iris").experiment
    assert now is not None
    assert {"blue": 0, "green": GREEN} == {arm.name: arm.weight for arm in now.arms}
    [stopped] = [one for one in plane.control.events() if isinstance(one.change, Weighed) and one.who != ANA.who]
    assert stopped.reason is not None
    assert stopped.reason.startswith("blue is stopped: error in ")
    plane.experiments.look()
    assert stopped == plane.control.events()[-1]
    plane.operations.weigh("iris", experiment(), ANA)
    plane.experiments.look()
    assert 0 == plane.operations.experiment("iris").experiment.arms[0].weight


def test_what_was_judged_survives(plane: Plane, home: str) -> None:
    """Another controller goes on from the saved evidence; once it has ended it is still told, and its page is kept."""
    plane.operations.weigh("iris", experiment(), ANA)
    before = judged(plane, *calls(700), home=home)
    readers = Readers(Path(home) / "audit")
    assert 2 == len(readers.names)
    plane.operations.weigh("iris", None, ANA)
    plane.experiments.look()
    assert [] == readers.names  # the log waits for it no more
    with plane_of(settings_of(Path(home))) as other:
        answer = other.operations.experiment("iris")
        assert (False, "ana@quay", 1) == (answer.is_running, answer.began_by, answer.champion)
        assert [before["blue"].difference, before["green"].difference] == [arm.difference for arm in answer.arms]
    [page] = (Path(home) / "rollouts").glob("*.html")
    assert "blue minus champion" in page.read_text()
    assert "<script" not in page.read_text()


def test_another_champion_ends_the_comparison(plane: Plane, home: str) -> None:
    """What comes while another version is champion does not count."""
    plane.operations.weigh("iris", experiment(), ANA)
    before = judged(plane, *calls(300), home=home)
    plane.operations.move("iris", "champion", 2, ANA)
    after = judged(plane, *calls(300, begin=300), home=home)
    assert before["green"].difference == after["green"].difference
    assert plane.operations.experiment("iris").is_frozen


def test_evidence_that_is_not_ours_stops_one_arm(plane: Plane, home: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once and not overwritten; the other arm is judged."""
    plane.operations.weigh("iris", experiment(), ANA)
    model = plane.control.state().model("iris")
    path = path_of(Path(home), evidence_id(model, experiment(), experiment().arms[0]))
    path.parent.mkdir()
    path.write_bytes(b"{}")
    for _ in range(2):
        plane.experiments.look()
    assert ["the arm blue of fees stands still"] == [
        one.getMessage().partition(":")[0] for one in caplog.records if one.levelname == "ERROR"
    ]
    assert b"{}" == path.read_bytes()
    assert [False, True] == [arm.judged is not None for arm in plane.experiments.answer("iris").arms]


def test_calls_without_feedback(plane: Plane, home: str) -> None:
    """They count as 0 where that is declared, and else not at all."""
    zero = msgspec.structs.replace(CONVERSION, is_missing_zero=True)
    plane.operations.weigh("iris", experiment(zero), ANA)
    silent = [one for one in calls(400, others=1.0) if one.kind == "prediction" or one.request_id.endswith("0")]
    arms = judged(plane, *silent, home=home)
    assert arms["green"].difference is not None and arms["green"].judged is not None
    assert arms["green"].judged.canary_n == arms["green"].difference.canary_n
    assert 0.1 == pytest.approx(arms["green"].difference.champion_mean, abs=0.06)
    plane.operations.weigh("iris", None, ANA)
    plane.operations.weigh("iris", experiment(id="fees"), ANA)
    arms = judged(plane, *silent, home=home)
    assert arms["green"].difference is not None
    assert 1.0 == arms["green"].difference.champion_mean


def said(request_id: str, at_s: float, actual: str, key: str | None = None, model: str = "iris") -> Record:
    """Feedback on a call, or on a caller's last one."""
    at, about = AT + timedelta(seconds=at_s), [{"index": 0, "actual": actual}]
    return answered(0, request_id=request_id, kind="feedback", model=model, at=at, key=key, input=about)


def test_which_feedback_is_of_a_call() -> None:
    """Read before its call it is kept; by key it is of calls before it, of this model; nothing is kept for good."""
    goal = msgspec.structs.replace(CONVERSION, is_missing_zero=True)
    observer = Observer("fees", Evidence.of(watched_of(goal)), arm="blue", goal=goal)
    weights = {"champion": 5000, "blue": 5000}
    of = {"model": "iris", "experiment": "fees", "weights": weights}
    ana, bob, eve = (
        answered(number, **of, arm=arm, key=key)
        for number, arm, key in ((10, "blue", None), (20, "blue", "bob"), (30, "champion", "eve"))
    )
    observer.observe([said(ana.request_id, 12, "yes"), said("x", 25, "yes", key="bob", model="churn"), ana, bob], "w")
    observer.observe([said("y", 29, "yes", key="eve"), eve, said("z", 40, "yes", key="bob")], "w")
    assert (1, 1, 3) == (len(observer.said), len(observer.early | observer.said), len(observer.by_key))
    observer.mature(AT.timestamp() + 1000, is_behind=True)
    assert 3 == len(observer.waiting)  # what is read ends at 40 s, and the rest may be of these
    observer.mature(AT.timestamp() + 1000)
    [conversion] = [one for name, one in observer.evidence.intervals().items() if name == "conversion"]
    assert (2, 1.0, 1, 0.0) == (
        conversion.canary_n,
        conversion.canary_mean,
        conversion.champion_n,
        conversion.champion_mean,
    )
    late = answered(500, model="iris")
    observer.observe([said("of nothing", 200, "yes"), late], "w")
    observer.mature(AT.timestamp() + 1000)
    assert ({}, {}, {}, {}) == (observer.waiting, observer.said, observer.early, observer.by_key)


def test_a_split_without_a_goal_is_not_judged(plane: Plane) -> None:
    """It is told as it stands; a model that never had one says what would start it."""
    with pytest.raises(Unknown, match="has had no experiment"):
        plane.operations.experiment("iris")
    plane.operations.weigh("iris", experiment(None), ANA)
    plane.experiments.look()
    [blue, _] = plane.operations.experiment("iris").arms
    assert (None, "not judged: the experiment has no goal") == (blue.judged, blue.said)


@pytest.mark.parametrize(
    ("goal", "actual", "expected"),
    [
        (CONVERSION, "yes", 1.0),
        (CONVERSION, "no", 0.0),
        (CONVERSION, 1, 0.0),
        (CONVERSION, ["yes"], None),
        (Goal(metric="conversion", equals="1"), 1, 1.0),
        (Goal(metric="conversion", equals="true"), True, 1.0),
        (Goal(metric="value"), 12, 12.0),
        (Goal(metric="value"), "12", None),
        (Goal(metric="value"), True, None),
        (Goal(), 1.0, None),
    ],
)
def test_what_feedback_says(goal: Goal, actual: object, expected: float | None) -> None:
    """A label that equals the declared one, or a number; of everything else nothing."""
    assert expected == value_of(goal, actual)


def test_goals_that_cannot_be() -> None:
    """`equals` and `conversion` come together."""
    with pytest.raises(ValueError, match="Expected `equals` with the metric `conversion`"):
        Goal(metric="conversion")
    with pytest.raises(ValueError, match="and no other"):
        Goal(metric="value", equals="yes")
