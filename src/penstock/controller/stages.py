"""The stages of a rollout before it gets traffic: a replay, in a process of its own; the shadow's pairs."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from penstock.control.repository import Repository
from penstock.control.rollouts import RolloutState
from penstock.control.state import ModelState
from penstock.controller.replay import Task, replayed
from penstock.errors import PenstockError, SegmentError
from penstock.jobs.replay import Question
from penstock.jobs.scoring import BATCH_ROWS
from penstock.jobs.shadow_state import read_state
from penstock.rollout.declared import ReplayOptions
from penstock.rollout.plan import Findings
from penstock.settings import Settings

_AGAIN: Final = "`penstock rollout resume` tries again"
_Round: TypeAlias = tuple[str, frozenset[str]]
"""A rollout, and what a person has accepted of it: another try after each `resume`."""


class StagesHere:
    """`Stages` on this machine, used by one thread. A replay runs in a process of its own, which is waited for in a
    thread; after a restart of the controller it goes on where it was.
    """

    def __init__(self, home: Path, repository: Repository, settings: Settings) -> None:
        self._home = home
        self._repository = repository
        self._settings = settings
        self._replays: dict[_Round, Findings] = {}

    def findings(self, model: ModelState, rollout: RolloutState) -> Findings:
        """What replay or shadow, whichever the stage is, has found so far."""
        options = rollout.plan.replay
        if rollout.stage != "replay" or options is None:
            return self._shadow(model.name, rollout)
        key = (rollout.id, rollout.accepted)
        if key not in self._replays:
            self._replays[key] = Findings()
            work = threading.Thread(target=self._replay, args=(key, model, rollout, options), daemon=True)
            work.start()
        return self._replays[key]

    def tidy(self, running: set[str]) -> None:
        """Forget what belongs to none of the rollouts of these ids. A replay under way ends by itself, unread."""
        for key in [key for key in self._replays if key[0] not in running]:
            del self._replays[key]

    def _shadow(self, name: str, rollout: RolloutState) -> Findings:
        try:
            state = read_state(self._home, name, rollout.version)
        except SegmentError as error:
            return Findings(failure=str(error))
        if state is None or state.of.champion != rollout.champion or state.began_at < rollout.since:
            return Findings()
        return Findings(
            rows=state.pairs + state.errors,
            errors=state.errors,
            flips=state.flips,
            unscorable=state.unscorable,
        )

    def _replay(self, key: _Round, model: ModelState, rollout: RolloutState, options: ReplayOptions) -> None:
        """In a thread of its own: replay, and note what came of it."""
        try:
            found = self._replayed(model, rollout, options)
        except (PenstockError, OSError, msgspec.DecodeError) as error:
            found = Findings(failure=f"the replay failed: {error}. {_AGAIN}")
        except Exception as error:  # the edge of a thread
            found = Findings(failure=f"the replay failed: {error!r}. {_AGAIN}")
        if key in self._replays:
            self._replays[key] = found

    def _replayed(self, model: ModelState, rollout: RolloutState, options: ReplayOptions) -> Findings:
        since = rollout.started - timedelta(days=options.days)
        question = Question(
            model=model.name,
            version=rollout.version,
            digest=rollout.digest,
            since=f"{options.days:g} days before {rollout.id}",
            decision=model.config.options.decision,
            most_pairs=options.rows,
        )
        task = Task(
            question=question,
            path=str(self._repository.local(model.versions[rollout.version].published.seal).absolute()),
            settings=self._settings,
            moments=(since, rollout.started),
            batch_rows=BATCH_ROWS,
        )
        result = replayed(task, lambda told: None).result
        return Findings(
            rows=result.pairs + result.rows.refused + result.rows.failed,
            errors=result.rows.refused + result.rows.failed,
            flips=result.flips,
            unscorable=result.rows.lacking + result.rows.without_features + result.rows.without_answer,
            is_done=True,
        )
