"""Judges A/B tests: reads what the log says of each arm, again and again, and takes the weight from an arm whose hard
guardrail alarms. Nothing else is decided here. A thread of the controller, which may die as that of the rollouts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from penstock.assignment import Arm, Experiment, Goal
from penstock.audit.extra import sealed_lines
from penstock.audit.follow import Follower
from penstock.audit.readers import Readers, reader_name
from penstock.control.answers import ExperimentAnswer, Judged
from penstock.control.changes import Who
from penstock.control.control import By, Control
from penstock.control.experiment_page import page_of
from penstock.control.experiments import (
    alpha_of,
    answer_of,
    evidence_id,
    hard_alarms,
    is_frozen,
    last_of,
    watched_of,
    without,
)
from penstock.control.state import ModelState
from penstock.controller.convergence import Convergence
from penstock.controller.judging import Judging, judged_of, path_of, read_kept
from penstock.durable import write_whole
from penstock.errors import Conflict, PenstockError, Unknown
from penstock.jobs.observing import Observer
from penstock.rollout.evidence import Evidence

_LOG = logging.getLogger("penstock")
_LOOK_S: Final = 0.2
_IDLE_S: Final = 1.0
_READER: Final = "experiment"
_REGISTER_S: Final = 30.0


class Experiments:
    """Judges the A/B tests by this machine's log. `run` in a thread; the others from any thread."""

    def __init__(
        self,
        control: Control,
        convergence: Convergence,
        *,
        home: Path,
        node: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._control = control
        self._convergence = convergence
        self._home = home
        self._who = Who(f"penstock@{node}")
        self._clock = clock
        self._follower = Follower(home / "audit", sealed_lines=sealed_lines)
        self._readers = Readers(home / "audit")
        self._under_way: dict[
            str, tuple[str, Judging]
        ] = {}  # by the evidence's id: the model, and what follows the log
        self._known: dict[str, Judged] = {}
        self._registered_s: dict[str, float] = {}
        self._ending = threading.Event()
        self._said: dict[str, str] = {}

    def run(self) -> None:
        """Judge until `stop`."""
        while not self._ending.wait(_LOOK_S if self._under_way else _IDLE_S):
            try:
                self.look()
                self._said.pop("", None)
            except (PenstockError, OSError, ValueError) as error:  # tests stand still; what is served goes on
                self._say("", "A/B tests stand still", error)
            except Exception:  # the edge of a thread that must go on
                _LOG.exception("A/B tests stand still; it is tried again")

    def stop(self) -> None:
        """End `run`; evidence that is not saved is read again from the log."""
        self._ending.set()

    def answer(self, name: str) -> ExperimentAnswer:
        """How the last experiment of a model stands. Raises Unknown and StateUnavailable."""
        model = self._control.state().model(name)
        experiment = last_of(model, [] if model.experiment is not None else self._control.events())
        known = {}
        for arm in experiment.arms if experiment.goal is not None else ():
            judged = self._judged(evidence_id(model, experiment, arm), alpha_of(experiment))
            if judged is not None:
                known[arm.name] = judged
        return answer_of(model, experiment, known)

    def look(self) -> None:
        """One look at each arm of each test. Raises StateUnavailable, and OSError where a report cannot be written."""
        running: set[str] = set()
        ended: set[str] = set()
        for model in self._control.state().models.values():
            experiment = model.experiment
            if experiment is None or experiment.goal is None:
                continue
            for arm in experiment.arms:
                evidence = evidence_id(model, experiment, arm)
                running.add(evidence)
                try:
                    self._judge(evidence, model, arm, experiment)
                    self._said.pop(evidence, None)
                except (PenstockError, OSError, ValueError) as error:  # this arm stands still, the others go on
                    self._say(evidence, f"the arm {arm.name} of {experiment.id} stands still", error)
        for one in self._under_way.keys() - running:
            name, judging = self._under_way.pop(one)
            judging.save()
            self._known.pop(one, None)
            self._registered_s.pop(one, None)
            self._said.pop(one, None)
            ended.add(name)
        self._readers.keep_only(_READER, {reader_name(_READER, one) for one in running})
        for name in ended:
            self._report(name)

    def _say(self, what: str, told: str, error: Exception) -> None:
        if self._said.get(what) != str(error):
            _LOG.error("%s: %s; it is tried again", told, error)
        self._said[what] = str(error)

    def _judge(self, evidence: str, model: ModelState, arm: Arm, experiment: Experiment) -> None:
        if evidence not in self._under_way:
            watched = watched_of(experiment.goal or Goal())
            fresh = Observer(experiment.id, Evidence.of(watched), arm=arm.name, goal=experiment.goal)
            judging = Judging(path_of(self._home, evidence), fresh, self._follower, self._clock)
            self._under_way[evidence] = model.name, judging
        judging = self._under_way[evidence][1]
        if is_frozen(model):
            judging.skip()
        self._known[evidence] = judged = judging.look(alpha_of(experiment))
        alarms = hard_alarms(judged) if arm.weight else []
        if alarms or time.monotonic() - self._registered_s.get(evidence, -_REGISTER_S) >= _REGISTER_S:
            judging.save()  # what an event rests on is on disk before the event is
            self._readers.save(reader_name(_READER, evidence), judging.position)
            self._registered_s[evidence] = time.monotonic()
        if alarms:
            self._stop_arm(model, without(experiment, arm.name), f"{arm.name} is stopped: {'; '.join(alarms)}")

    def _stop_arm(self, model: ModelState, wanted: Experiment, why: str) -> None:
        try:
            self._control.weigh(model.name, wanted, By(who=self._who, reason=why, if_revision=model.revision))
        except Conflict:  # somebody has changed the model since; the next look sees what is left to do
            return
        self._convergence.wake()
        _LOG.warning("experiment %s of %s: %s", wanted.id, model.name, why)

    def _judged(self, evidence: str, alpha: float) -> Judged | None:
        if evidence in self._known:
            return self._known[evidence]
        try:
            kept = read_kept(path_of(self._home, evidence))
        except (OSError, ValueError):  # the log of the server says why
            return None
        return None if kept is None else judged_of(kept, alpha)

    def _report(self, name: str) -> None:
        """Keep the page of a test that has ended beside its evidence."""
        try:
            answer = self.answer(name)
        except Unknown:
            return
        if not answer.is_running:
            model = self._control.state().model(name)
            began = 0 if model.begun is None else model.begun.event.revision
            path = path_of(self._home, f"{name}-{began}").with_suffix(".html")
            text = page_of(answer, [event for event in self._control.events() if event.model == name])
            write_whole(path, text.encode(), draft=path.with_suffix(".partial"))
