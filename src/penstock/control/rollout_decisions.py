"""What a rollout's verdicts and a person's commands change, given the state: pure. Weights and aliases go with them.

`roll` carries out what `rollout/plan.py` decided; the others are what operators say. Each gives the events to append.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from penstock.assignment import Arm, Experiment
from penstock.control import decisions
from penstock.control.changes import Change, Rolled, Step
from penstock.control.rollouts import CANARY, HELD, SHADOW, RolloutState, codes
from penstock.control.state import ModelState, State
from penstock.errors import InUse, MoveRefused, Unknown
from penstock.rollout.declared import Plan
from penstock.rollout.plan import Action, Reason, following
from penstock.rollout.reading import Reading
from penstock.routing import CHAMPION

Verb: TypeAlias = Literal["hold", "resume", "approve", "abort", "promote"]
_MOST_READINGS: Final = 40


def start(state: State, name: str, number: int, plan: Plan, *, node: str = "", is_forced: bool = False) -> list[Change]:
    """A rollout of version `number` begins at its first stage.

    Raises Unknown, InUse while another rollout or experiment of the model goes on, and MoveRefused for the champion
    itself, and (unless forced) for contents that a rollout was aborted for.
    """
    model = state.model(name)
    version = model.version(number)
    champion = model.aliases.get(CHAMPION)
    if champion is None:
        raise Unknown(f"{name!r} has no champion to compare with: `penstock deploy {name} {number}` makes one")
    what = f"no rollout of version {number} of {name!r} is started"
    if champion == number:
        raise MoveRefused(what, ["it is the champion already"], may_force=False)
    require_none(model)
    if model.experiment is not None:
        raise InUse(f"{name!r} has the experiment {model.experiment.id} under way: end it first")
    digest = version.published.digest
    if digest in model.aborted and not is_forced:
        raise MoveRefused(what, [f"these contents were rolled back before: {model.aborted[digest]}"], may_force=True)
    stage, step = following(plan, None)
    began = Rolled(
        rollout=f"{name}-{number}-{state.revision + 1}",
        version=number,
        what="start",
        stage=stage,
        step=step,
        plan=plan,
        digest=digest,
        champion=champion,
        node=node,
    )
    return [began, *_effects(state, name, began, plan)]


def roll(
    state: State, name: str, rollout: str, action: Action, *, readings: Sequence[Reading] = (), canary_n: int = 0
) -> list[Change]:
    """Carry out what was decided of the rollout of that id; nothing if it has ended since, or nothing changes."""
    model = state.model(name)
    now = model.rollout
    if now is None or now.id != rollout or not now.is_running:
        return []
    if action.verdict in ("wait", "advance", "promote") and _is_overtaken(model, now):
        return []
    change = Rolled(
        rollout=now.id,
        version=now.version,
        what="start",
        stage=now.stage,
        step=now.step,
        why=action.why,
        readings=tuple(readings)[:_MOST_READINGS],
        canary_n=canary_n,
    )
    match action.verdict:
        case "wait":
            return [_as(change, "go_on", why=())] if now.held else []
        case "hold":
            why = [one for one in codes(action.why) if one != HELD]  # that a person holds it is an event already
            return [] if list(now.held) == why else [_as(change, "hold")]
        case "advance":
            stage, step = following(now.plan, now.stage, now.step)
            change = msgspec.structs.replace(change, what="advance", stage=stage, step=step)
        case "abort" | "promote":
            change = _as(change, action.verdict)
    return [change, *_effects(state, name, change, now.plan)]


def told(state: State, name: str, verb: Verb, why: str) -> list[Change]:
    """What a person says of the rollout of a model. Raises Unknown where none is under way."""
    match verb:
        case "hold":
            return hold(state, name, why)
        case "resume":
            return resume(state, name, why)
        case "approve":
            return approve(state, name, why)
        case "abort" | "promote":
            return end(state, name, verb, why)


def hold(state: State, name: str, why: str) -> list[Change]:
    """A person holds it: the weights stay as they are until `resume`. Raises Unknown where none is under way."""
    now = running(state, name)
    return [_by_hand(now, "hold", why)] if now.held_by is None else []


def resume(state: State, name: str, why: str) -> list[Change]:
    """A person lets it go on; the soft alarms that hold it are accepted. Raises Unknown."""
    now = running(state, name)
    if now.held_by is None and not now.held:
        return []
    accepted = tuple(sorted({*now.held, *(one.name for one in now.readings if one.state == "alarm")}))
    return [msgspec.structs.replace(_by_hand(now, "go_on", why), accepted=accepted)]


def approve(state: State, name: str, why: str) -> list[Change]:
    """A person approves the last step. Raises Unknown."""
    now = running(state, name)
    return [] if now.is_approved else [_by_hand(now, "approve", why)]


def end(state: State, name: str, verdict: str, why: str) -> list[Change]:
    """A person ends it: `abort` takes the weight away, `promote` makes the version champion at once. Raises Unknown."""
    now = running(state, name)
    change = _by_hand(now, "promote" if verdict == "promote" else "abort", why)
    return [change, *_effects(state, name, change, now.plan)]


def running(state: State, name: str) -> RolloutState:
    """The rollout of a model that is under way. Raises Unknown."""
    now = state.model(name).rollout
    if now is None or not now.is_running:
        was = "" if now is None else f"; the last one, of version {now.version}, was {now.status}"
        raise Unknown(f"{name!r} has no rollout under way{was}: `penstock rollout start {name} VERSION` starts one")
    return now


def require_none(model: ModelState) -> None:
    """Raise InUse while a rollout of the model is under way."""
    now = model.rollout
    if now is not None and now.is_running:
        raise InUse(
            f"{model.name!r} has the rollout {now.id} of version {now.version} under way: "
            f"`penstock rollout abort {model.name}` ends it"
        )


def _is_overtaken(model: ModelState, now: RolloutState) -> bool:
    """Whether a person was faster than the decision to go on: the next look sees what is to be done."""
    return now.held_by is not None or model.aliases.get(CHAMPION) != now.champion


def _effects(state: State, name: str, change: Rolled, plan: Plan) -> list[Change]:
    """What goes with an event of a rollout: the weights, the alias `shadow`, and in the end the champion."""
    model, is_over = state.model(name), change.what in ("abort", "promote")
    changes: list[Change] = []
    shadow = change.version if change.stage == "shadow" and not is_over else None
    if shadow is not None or model.aliases.get(SHADOW) == change.version:
        changes += decisions.move(state, name, SHADOW, shadow)
    weight = plan.buckets(change.step) if change.stage == "step" and not is_over else 0
    changes += decisions.weigh(state, name, _experiment(model, change, weight))
    if change.what == "promote":
        changes += decisions.move(state, name, CHAMPION, change.version)
    return changes


def _experiment(model: ModelState, change: Rolled, weight: int) -> Experiment | None:
    if not weight:
        mine = model.experiment is not None and model.experiment.id == change.rollout
        return None if mine else model.experiment
    return Experiment(id=change.rollout, arms=(Arm(name=CANARY, version=change.version, weight=weight),))


def _as(change: Rolled, what: Step, **changes: object) -> Rolled:
    return msgspec.structs.replace(change, what=what, **changes)


def _by_hand(now: RolloutState, what: Step, why: str) -> Rolled:
    return Rolled(
        rollout=now.id,
        version=now.version,
        what=what,
        stage=now.stage,
        step=now.step,
        is_by_hand=True,
        why=(Reason("by_hand", why),),
        readings=now.readings,
        canary_n=now.canary_n,
    )
