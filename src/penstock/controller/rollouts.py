"""Carries rollouts out: looks at the evidence again and again, asks `rollout/plan.py` what comes next, and says it to
the control plane. A thread of the controller; what it knows is in the state and in the evidence's file: it may die.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from penstock.audit.extra import sealed_lines
from penstock.audit.follow import Follower
from penstock.audit.readers import Readers, reader_name
from penstock.control import rollout_decisions
from penstock.control.answers import Judged, RolloutAnswer
from penstock.control.changes import Who
from penstock.control.control import By, Control
from penstock.control.rollout_page import page_of
from penstock.control.rollouts import RolloutState
from penstock.control.state import ModelState
from penstock.controller.convergence import Convergence
from penstock.controller.judging import Judging, judged_of, path_of, read_kept
from penstock.durable import write_whole
from penstock.errors import PenstockError, StateUnavailable
from penstock.jobs.observing import Observer
from penstock.rollout.evidence import Evidence
from penstock.rollout.plan import Action, Findings, Reason, Snapshot, next_action
from penstock.routing import CHAMPION

_LOG = logging.getLogger("penstock")
_LOOK_S: Final = 0.2
_IDLE_S: Final = 1.0
_BEHIND_S: Final = 1.0
_READER: Final = "rollout"
_REGISTER_S: Final = 30.0
"""How often the log hears how far a rollout has read it, that segments need not wait."""
_BEGINS: Final = Action("wait", (Reason("begins", "it is looked at within a second"),))


class Stages(Protocol):
    """The stages before traffic, each begun where it is not under way."""

    def findings(self, model: ModelState, rollout: RolloutState) -> Findings:
        """What replay or shadow, whichever the stage is, has found so far."""
        ...

    def tidy(self, running: set[str]) -> None:
        """End what belongs to none of the rollouts of these ids."""
        ...


class Rollouts:
    """Judges the rollouts that this machine (`node`) has under way. `run` in a thread; the others from any thread."""

    def __init__(
        self,
        control: Control,
        convergence: Convergence,
        stages: Stages,
        *,
        home: Path,
        node: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._control = control
        self._convergence = convergence
        self._stages = stages
        self._home = home
        self._node = node
        self._by = By(who=Who(f"penstock@{node}"))
        self._clock = clock
        self._follower = Follower(home / "audit", sealed_lines=sealed_lines)
        self._readers = Readers(home / "audit")
        self._under_way: dict[str, Judging] = {}
        self._last: dict[str, tuple[str, Judged, Action]] = {}  # by model
        self._registered_s: dict[str, float] = {}
        self._ended: set[str] = set()  # rollouts that have their report
        self._ending = threading.Event()
        self._is_at_work = self._is_behind = False
        self._said: dict[str, str] = {}  # by model; of all of them by ""

    def run(self) -> None:
        """Judge until `stop`."""
        self._is_at_work = True
        while not self._ending.wait(0.0 if self._is_behind else _LOOK_S if self._under_way else _IDLE_S):
            try:
                self.look()
                self._said.pop("", None)
            except (PenstockError, OSError, ValueError) as error:  # rollouts stand still; what is served goes on
                self._say("", error)
            except Exception:  # the edge of a thread that must go on
                _LOG.exception("rollouts stand still; it is tried again")

    def stop(self) -> None:
        """End `run`; evidence that is not saved is read again from the log."""
        self._ending.set()

    def known(self, name: str) -> tuple[Judged, Action | None] | None:
        """What is known of the rollout of a model, and what was decided last (None: it has ended, or nobody judges it
        here); None where nothing is known at all.
        """
        rollout = self._control.state().model(name).rollout
        if rollout is None:
            return None
        found = self._last.get(name)
        if found is not None and found[0] == rollout.id:
            return found[1:]
        try:
            kept = read_kept(path_of(self._home, rollout.id))
        except ValueError as error:  # it stands still, and is said to
            return Judged(), Action("hold", (Reason("unreadable", str(error)),))
        begins = _BEGINS if self._is_at_work and rollout.is_running else None
        if kept is None:
            return None if begins is None else (Judged(), begins)
        return judged_of(kept), begins

    def look(self) -> None:
        """One look at each rollout; one that cannot be judged holds up no other. Raises StateUnavailable, OSError."""
        state = self._control.state()
        mine = [
            (model, model.rollout)
            for model in state.models.values()
            if model.rollout is not None and model.rollout.node in ("", self._node)
        ]
        running = {rollout.id for _, rollout in mine if rollout.is_running}
        self._is_behind = False
        for model, rollout in mine:
            try:
                if rollout.is_running:
                    self._judge(model, rollout)
                else:
                    self._end(model.name, rollout)
                self._said.pop(model.name, None)
            except StateUnavailable:
                raise
            except (PenstockError, OSError, ValueError) as error:
                self._say(model.name, error)
        self._tidy(running)
        self._stages.tidy(running)

    def _judge(self, model: ModelState, rollout: RolloutState) -> None:
        name, judging = model.name, self._under_way.get(rollout.id)
        if judging is None:
            fresh, path = Observer(rollout.id, Evidence.of(rollout.plan.watch)), path_of(self._home, rollout.id)
            # From its start on: the one before this one may have died before its first look.
            judging = Judging(path, fresh, self._follower, self._clock, since=rollout.started)
            self._under_way[rollout.id] = judging
        judged = judging.look()
        self._is_behind |= judged.lag.seconds > _BEHIND_S
        if time.monotonic() - self._registered_s.get(rollout.id, -_REGISTER_S) >= _REGISTER_S:
            self._save(rollout.id, judging)
        action = self._action(name, model, rollout, judged)
        self._last[name] = (rollout.id, judged, action)
        decide = partial(
            rollout_decisions.roll,
            name=name,
            rollout=rollout.id,
            action=action,
            readings=judged.readings,
            canary_n=judged.canary_n,
        )
        if not decide(self._control.state()):
            return
        self._save(rollout.id, judging)  # what an event rests on is on disk before the event is
        if self._control.roll(name, self._by, decide):
            self._convergence.wake()
            why = "; ".join(one.text for one in action.why)
            _LOG.info("rollout %s of %s %d: %s: %s", rollout.id, name, rollout.version, action.verdict, why)

    def _save(self, rollout_id: str, judging: Judging) -> None:
        judging.save()
        self._readers.save(reader_name(_READER, rollout_id), judging.position)
        self._registered_s[rollout_id] = time.monotonic()

    def _end(self, name: str, rollout: RolloutState) -> None:
        """Once: keep the report of a rollout that has ended beside its evidence, whichever controller saw the end."""
        if rollout.id in self._ended:
            return
        if rollout.id in self._under_way:
            self._under_way.pop(rollout.id).save()
        path, known = path_of(self._home, rollout.id).with_suffix(".html"), self.known(name)
        if known is not None and not path.exists():
            answer = RolloutAnswer(model=name, rollout=rollout, judged=known[0])
            text = page_of(answer, [event for event in self._control.events() if event.model == name])
            write_whole(path, text.encode(), draft=path.with_suffix(".partial"))
        self._ended.add(rollout.id)

    def _tidy(self, running: set[str]) -> None:
        """The log waits for no rollout but these."""
        for rollout_id in self._under_way.keys() - running:  # another one of its model has begun since
            del self._under_way[rollout_id]
        self._readers.keep_only(_READER, {reader_name(_READER, rollout_id) for rollout_id in running})

    def _say(self, name: str, error: Exception) -> None:
        if self._said.get(name) != str(error):
            what = f"the rollout of {name} stands" if name else "rollouts stand"
            _LOG.error("%s still: %s; it is tried again", what, error)
        self._said[name] = str(error)

    def _action(self, name: str, model: ModelState, rollout: RolloutState, judged: Judged) -> Action:
        now = model.aliases.get(CHAMPION)
        if now != rollout.champion:
            text = f"version {rollout.champion}, which it is compared with, is champion no more: version {now} is"
            return Action("abort", (Reason("champion_changed", text),))
        is_step = rollout.stage == "step"
        return next_action(
            Snapshot(
                plan=rollout.plan,
                stage=rollout.stage,
                step=rollout.step,
                stage_s=(datetime.fromtimestamp(self._clock(), UTC) - rollout.since).total_seconds(),
                behind_s=judged.lag.seconds,
                is_applied=not is_step or not self._convergence.wait(model.revision, 0.0, {name}),
                unfit=self._convergence.unfit(name, rollout.version),
                readings=judged.readings,
                canary_n=judged.canary_n - rollout.canary_n,
                findings=None if is_step else self._stages.findings(model, rollout),
                held_by=rollout.held_by,
                accepted=rollout.accepted,
                is_approved=rollout.is_approved,
            )
        )
