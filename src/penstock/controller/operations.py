"""What an operator can do, whoever does it: the running controller over HTTP, or this process under a lock."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Protocol

from penstock.assignment import Experiment
from penstock.audit.erase import Wanted
from penstock.control.answers import (
    ApplyAnswer,
    EraseAnswer,
    ExperimentAnswer,
    GarbageAnswer,
    HistoryAnswer,
    ModelAnswer,
    MoveAnswer,
    PublishAnswer,
    RolloutAnswer,
    SealAnswer,
    WeighAnswer,
)
from penstock.control.control import By
from penstock.control.rollout_decisions import Verb
from penstock.rollout.declared import Plan


class Operations(Protocol):
    """The commands. Each raises ControlError of the kind that says why nothing was changed."""

    def publish(self, bundle: Path, by: By, alias: str | None = None) -> PublishAnswer:
        """Make a bundle the next version of its model."""
        ...

    def move(self, model: str, alias: str, version: int | None, by: By) -> MoveAnswer:
        """Give an alias to a version, or take it away."""
        ...

    def rollback(self, model: str, by: By) -> MoveAnswer:
        """Make the champion before this one the champion again."""
        ...

    def weigh(self, model: str, experiment: Experiment | None, by: By) -> WeighAnswer:
        """Begin an experiment of a model, change the weights of its arms, or end it (None)."""
        ...

    def experiment(self, model: str) -> ExperimentAnswer:
        """How the last experiment of a model stands: of an A/B test each arm's difference to the champion."""
        ...

    def start_rollout(self, model: str, version: int, plan: Plan, by: By) -> RolloutAnswer:
        """Begin a rollout of a version: replay, shadow, steps, champion, as far as the evidence lets it."""
        ...

    def rollout(self, model: str) -> RolloutAnswer:
        """How the last rollout of a model stands."""
        ...

    def tell_rollout(self, model: str, verb: Verb, by: By) -> RolloutAnswer:
        """What a person says of the rollout that is under way; `by.reason` stands in the history."""
        ...

    def remove(self, model: str, version: int, by: By) -> None:
        """Remove a version that nothing refers to."""
        ...

    def models(self) -> list[ModelAnswer]:
        """All models, by name."""
        ...

    def model(self, name: str) -> ModelAnswer:
        """One model."""
        ...

    def history(self, model: str, at: datetime | None = None) -> HistoryAnswer:
        """What happened to a model, and with `at` what it was then."""
        ...

    def apply(self, declared: str, by: By, *, is_dry: bool = False) -> ApplyAnswer:
        """Make the state what the YAML text `declared` says, or with `is_dry` only say what would change."""
        ...

    def collect_garbage(self, by: By, *, is_dry: bool = False) -> GarbageAnswer:
        """Remove versions by rule, and files that nothing refers to."""
        ...

    def seal(self, by: By) -> SealAnswer:
        """Seal the segments of the log that no worker writes, and remove what retention lets go."""
        ...

    def erase(self, wanted: Wanted, by: By) -> EraseAnswer:
        """Take payloads of records out of the log for good, by request id or by key; the chain still proves itself."""
        ...

    def back_up(self, directory: Path) -> None:
        """Write a copy of the state, the bundles and the log to a new directory on the controller's machine."""
        ...
