"""An A/B test as part of the state: what its evidence is called and made of, and what can be said of an arm. Pure.

Nothing is decided by itself but that an arm whose hard guardrail alarms gets no weight any more (`without`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final

import msgspec

from penstock.assignment import BUCKETS, Arm, Experiment, Goal
from penstock.control.answers import ArmAnswer, ExperimentAnswer, Judged
from penstock.control.changes import Event, Weighed
from penstock.control.state import ModelState
from penstock.errors import Unknown
from penstock.rollout.confidence import LEAST_EACH, LEAST_OF_A_RARE, MEAN_ALPHA, Interval
from penstock.rollout.guardrails import Watched
from penstock.routing import CHAMPION

_DAY_S: Final = 86_400.0
_UNTRUSTED: Final = {
    "sample_ratio": "callers do not reach the arms as the weights say",
    "labelled_more": "it gets more feedback than the champion",
    "labelled_less": "it gets less feedback than the champion",
}


def watched_of(goal: Goal) -> Watched:
    """What is watched of an arm. Its scores are meant to differ, so their deciles are not."""
    delay = None if goal.metric == "score" else goal.label_delay_s
    return Watched(is_recalibrated=True, label_delay_s=delay, planned_requests=goal.planned_calls)


def evidence_id(model: ModelState, experiment: Experiment, arm: Arm) -> str:
    """What the evidence of an arm is kept as: other evidence for another version, goal, or beginning."""
    of = msgspec.json.encode((experiment.id, arm.name, number_of(model, arm), experiment.goal))
    began = 0 if model.begun is None else model.begun.event.revision
    return f"{model.name}-{began}-{hashlib.sha256(of).hexdigest()[:12]}"


def number_of(model: ModelState, arm: Arm) -> int | None:
    """The version of an arm."""
    return arm.version if arm.alias is None else model.aliases.get(arm.alias)


def alpha_of(experiment: Experiment) -> float:
    """Of one arm's interval, so that those of all arms hold together (Bonferroni)."""
    return MEAN_ALPHA / max(1, len(experiment.arms))


def is_frozen(model: ModelState) -> bool:
    """Whether another version is champion than the one that the arms are compared with."""
    return model.begun is None or model.aliases.get(CHAMPION) != model.begun.champion


def without(experiment: Experiment, arm: str) -> Experiment:
    """The same, with no weight for this arm."""
    arms = tuple(msgspec.structs.replace(one, weight=0) if one.name == arm else one for one in experiment.arms)
    return msgspec.structs.replace(experiment, arms=arms)


def hard_alarms(judged: Judged) -> list[str]:
    """The hard guardrails in alarm, in words."""
    return [
        f"{one.name} in {one.canary_events:,} of {one.canary_n:,} calls, the champion's in {one.champion_events:,} of "
        f"{one.champion_n:,}: E {one.e:.3g} against {one.limit:.3g}"
        for one in judged.readings
        if one.state == "alarm" and one.kind == "hard"
    ]


def last_of(model: ModelState, events: Sequence[Event]) -> Experiment:
    """The experiment that a model has, or had last. Raises Unknown where it never had one."""
    if model.experiment is not None:
        return model.experiment
    for event in reversed(events):
        change = event.change
        if event.model == model.name and isinstance(change, Weighed) and change.before is not None:
            return change.before
    raise Unknown(f"{model.name!r} has had no experiment: `penstock experiment start {model.name} …` starts one")


def answer_of(model: ModelState, experiment: Experiment, known: Mapping[str, Judged]) -> ExperimentAnswer:
    """All of it; `known` has what is known of the arms, by name."""
    if model.begun is None:
        raise Unknown(f"{model.name!r} has had no experiment")
    event = model.begun.event
    is_running = model.experiment is not None
    return ExperimentAnswer(
        model=model.name,
        experiment=experiment,
        is_running=is_running,
        champion=model.begun.champion,
        is_frozen=is_running and is_frozen(model),
        began=event.at,
        began_by=event.who.name,
        arms=[_arm_answer(model, experiment, arm, known.get(arm.name)) for arm in experiment.arms],
    )


def _arm_answer(model: ModelState, experiment: Experiment, arm: Arm, judged: Judged | None) -> ArmAnswer:
    answer = ArmAnswer(name=arm.name, version=number_of(model, arm), weight=arm.weight, judged=judged)
    goal = experiment.goal
    if goal is None:
        return msgspec.structs.replace(answer, said="not judged: the experiment has no goal")
    if judged is None:
        return msgspec.structs.replace(answer, said="not judged yet: it is while `penstock serve` runs on this home")
    alarms = [one.name for one in judged.readings if one.state == "alarm"]
    difference = judged.intervals.get(goal.metric)
    untrusted = [why for name, why in _UNTRUSTED.items() if name in alarms]
    if difference is None:
        waits = f"; {judged.waiting:,} calls wait for their feedback to mature" if judged.waiting else ""
        said = f"cannot be told yet: no {goal.metric} of this arm or the champion is known{waits}"
        return msgspec.structs.replace(answer, said=said, alarms=alarms)
    needed = _needed(difference, _share(experiment, arm))
    days = _days(difference, needed, _counted_s(goal, judged)) if arm.weight else None
    is_told = difference.lower is not None and needed == 0
    said = _told(goal, difference) if is_told else _not_told(difference, needed, days)
    return msgspec.structs.replace(
        answer,
        difference=difference,
        is_told=is_told and not untrusted,
        needed=needed,
        days=days,
        said=f"not to be trusted: {'; '.join(untrusted)}" if untrusted else said,
        alarms=alarms,
    )


def _told(goal: Goal, one: Interval) -> str:
    how = "higher" if one.difference > 0 else "lower"
    return (
        f"can be told: {goal.metric} is {how} by {abs(one.difference):.4g} (between {one.lower or 0.0:.4g} and "
        f"{one.upper or 0.0:.4g}, at any time)"
    )


def _not_told(one: Interval, needed: int | None, days: float | None) -> str:
    if needed is None:
        return (
            "cannot be told yet, and is not in sight: a difference this small needs a thousand times the calls so far"
        )
    rate = "" if days is None else f", {_shown_days(days)} at the present rate"
    few = "; too few of one of them for an interval" if one.lower is None else ""
    return f"cannot be told yet: about {needed:,} more calls of the two{rate}{few}"


def _shown_days(days: float) -> str:
    return (
        f"{days:.1f} days"
        if days >= 1
        else f"{days * 24:.1f} hours"
        if days * 24 >= 1
        else f"{days * 1440:.0f} minutes"
    )


def _share(experiment: Experiment, arm: Arm) -> float:
    """The arm's part of the calls of the two."""
    champion = BUCKETS - sum(one.weight for one in experiment.arms)
    return arm.weight / (arm.weight + champion) if arm.weight + champion else 0.0


def _needed(one: Interval, share: float) -> int | None:
    """About how many more calls of the two arms it takes; until there is an interval, what it takes for one."""
    if one.lower is not None:
        return one.needed
    if not 0 < share < 1:
        return None
    floor = max(LEAST_EACH, ceil(LEAST_OF_A_RARE / share))
    return max(1, ceil((floor - one.canary_n) / share), ceil((floor - one.champion_n) / (1 - share)))


def _counted_s(goal: Goal, judged: Judged) -> float:
    """How long the calls came whose metric is known."""
    return judged.span_s - (0.0 if goal.metric == "score" else goal.label_delay_s)


def _days(one: Interval, needed: int | None, counted_s: float) -> float | None:
    n = one.canary_n + one.champion_n
    return needed * counted_s / n / _DAY_S if needed is not None and n and counted_s > 0 else None
