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

from penstock.audit.follow import Follower
from penstock.audit.readers import Readers
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
from penstock.errors import PenstockError
from penstock.jobs.observing import Observer
from penstock.rollout.evidence import Evidence
from penstock.rollout.plan import Action, Findings, Reason, Snapshot, next_action
from penstock.routing import CHAMPION

_LOG = logging.getLogger("penstock")
_LOOK_S: Final = 0.2
_IDLE_S: Final = 1.0
_READER: Final = "rollout-"


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
        self._follower = Follower(home / "audit")
        self._readers = Readers(home / "audit")
        self._under_way: dict[str, Judging] = {}
        self._last: dict[str, tuple[str, Judged, Action]] = {}  # by model
        self._ending = threading.Event()
        self._said = ""

    def run(self) -> None:
        """Judge until `stop`."""
        while not self._ending.wait(_LOOK_S if self._under_way else _IDLE_S):
            try:
                self.look()
                self._said = ""
            except (PenstockError, OSError, ValueError) as error:  # rollouts stand still; what is served goes on
                if self._said != str(error):
                    _LOG.error("rollouts stand still: %s; it is tried again", error)
                self._said = str(error)
            except Exception:  # the edge of a thread that must go on
                _LOG.exception("rollouts stand still; it is tried again")

    def stop(self) -> None:
        """End `run`; evidence that is not saved is read again from the log."""
        self._ending.set()

    def known(self, name: str) -> tuple[Judged, Action | None] | None:
        """What is known of the rollout of a model, and what was decided last (None: it has ended, or nobody has looked
        yet); None where nothing is known at all.
        """
        rollout = self._control.state().model(name).rollout
        if rollout is None:
            return None
        found = self._last.get(name)
        if found is not None and found[0] == rollout.id:
            return found[1:]
        kept = read_kept(path_of(self._home, rollout.id))
        return None if kept is None else (judged_of(kept), None)

    def look(self) -> None:
        """One look at each rollout that is under way. Raises StateUnavailable, SegmentError, OSError."""
        state = self._control.state()
        running: set[str] = set()
        for name, model in state.models.items():
            rollout = model.rollout
            if rollout is not None and rollout.is_running and rollout.node in ("", self._node):
                running.add(rollout.id)
                self._judge(name, model, rollout)
        for rollout_id in self._under_way.keys() - running:
            self._under_way.pop(rollout_id).save()
            self._report(rollout_id)
            self._readers.forget(_READER + rollout_id)
        self._stages.tidy(running)

    def _judge(self, name: str, model: ModelState, rollout: RolloutState) -> None:
        judging = self._under_way.get(rollout.id)
        if judging is None:
            fresh = Observer(rollout.id, Evidence.of(rollout.plan.watch))
            judging = Judging(path_of(self._home, rollout.id), fresh, self._follower, self._clock)
            self._under_way[rollout.id] = judging
            self._readers.save(_READER + rollout.id, judging.position)
        judged = judging.look()
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
        judging.save()  # what an event rests on is on disk before the event is
        self._readers.save(_READER + rollout.id, judging.position)
        if self._control.roll(name, self._by, decide):
            self._convergence.wake()
            why = "; ".join(one.text for one in action.why)
            _LOG.info("rollout %s of %s %d: %s: %s", rollout.id, name, rollout.version, action.verdict, why)

    def _report(self, rollout_id: str) -> None:
        """Keep the report of a rollout that has ended beside its evidence."""
        for name, model in self._control.state().models.items():
            rollout, known = model.rollout, self.known(name)
            if rollout is not None and rollout.id == rollout_id and known is not None:
                answer = RolloutAnswer(model=name, rollout=rollout, judged=known[0])
                text = page_of(answer, [event for event in self._control.events() if event.model == name])
                path = path_of(self._home, rollout_id).with_suffix(".html")
                write_whole(path, text.encode(), draft=path.with_suffix(".partial"))

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
