"""A rollout as part of the state: what is known of it, how its events fold, and what each verdict changes. Pure.

`rollout/plan.py` decides what comes next; `rollout_decisions.py` makes events of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from penstock.control.changes import Rolled, Who
from penstock.rollout.declared import Plan
from penstock.rollout.plan import Reason, Stage
from penstock.rollout.reading import Reading

CANARY: Final = "canary"
SHADOW: Final = "shadow"
HELD: Final = "held"
"""The code of a hold by a person."""


class RolloutState(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as it stands. `since` is when its stage or step began, `canary_n` how many requests of the canary had
    counted then. `held` are the codes of what holds it, `held_by` who does by hand.
    """

    id: str
    version: int
    digest: str
    champion: int
    plan: Plan
    stage: Stage
    step: int
    started: datetime
    since: datetime
    who: Who
    node: str
    status: Literal["running", "promoted", "aborted"] = "running"
    canary_n: int = 0
    held: tuple[str, ...] = ()
    held_by: str | None = None
    accepted: frozenset[str] = frozenset()
    is_approved: bool = False
    why: tuple[Reason, ...] = ()
    readings: tuple[Reading, ...] = ()
    ended: datetime | None = None

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self.status == "running"

    @property
    def percent(self) -> float:
        """The share of the calls that its canary has now, in percent."""
        return self.plan.steps[self.step] if self.is_running and self.stage == "step" else 0.0


def begun(change: Rolled, at: datetime, who: Who) -> RolloutState:
    """The state of a rollout that starts. Raises ValueError for another event."""
    if change.plan is None or change.digest is None or change.champion is None:
        raise ValueError(f"Expected the start of the rollout {change.rollout}, got {change.what!r}")
    return RolloutState(
        id=change.rollout,
        version=change.version,
        digest=change.digest,
        champion=change.champion,
        plan=change.plan,
        stage=change.stage,
        step=change.step,
        started=at,
        since=at,
        who=who,
        node=change.node,
        why=change.why,
    )


def rolled(now: RolloutState | None, change: Rolled, at: datetime, who: Who) -> RolloutState:
    """The state of a rollout after an event of it. Raises ValueError for an event of one that has not begun."""
    if change.what == "start":
        return begun(change, at, who)
    if now is None or now.id != change.rollout:
        raise ValueError(f"the rollout {change.rollout} has not begun")
    now = msgspec.structs.replace(now, why=change.why, readings=change.readings or now.readings)
    held_by = f"{who.name}: {'; '.join(one.text for one in change.why)}" if change.is_by_hand else None
    match change.what:
        case "advance":
            return msgspec.structs.replace(
                now, stage=change.stage, step=change.step, since=at, canary_n=change.canary_n, held=(), held_by=None
            )
        case "hold":
            held = now.held if change.is_by_hand else tuple(one for one in codes(change.why) if one != HELD)
            return msgspec.structs.replace(now, held=held, held_by=held_by or now.held_by)
        case "go_on":
            accepted = now.accepted | set(change.accepted)
            return msgspec.structs.replace(now, held=(), held_by=None, accepted=accepted)
        case "approve":
            return msgspec.structs.replace(now, is_approved=True)
        case "abort":
            return msgspec.structs.replace(now, status="aborted", ended=at, held=(), held_by=None)
        case "promote":
            return msgspec.structs.replace(now, status="promoted", ended=at, held=(), held_by=None)
    raise ValueError(f"no such event of a rollout: {change.what!r}")


def codes(why: Sequence[Reason]) -> tuple[str, ...]:
    """The codes of reasons, each once, in order."""
    return tuple(dict.fromkeys(one.code for one in why))
