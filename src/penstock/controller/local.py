"""The commands done here: by the controller, and by the command line where no controller runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from penstock.assignment import Experiment
from penstock.audit.erase import Wanted
from penstock.control import rollout_decisions
from penstock.control.aliases import alias_of
from penstock.control.answers import (
    ApplyAnswer,
    EraseAnswer,
    ExperimentAnswer,
    GarbageAnswer,
    HistoryAnswer,
    Judged,
    ModelAnswer,
    MoveAnswer,
    PublishAnswer,
    RolloutAnswer,
    SealAnswer,
    ShadowAnswer,
    VersionAnswer,
    WeighAnswer,
)
from penstock.control.changes import Event, Moved, Weighed
from penstock.control.control import By, Control
from penstock.control.declared import Configure, Move, differences, read_declared, steps_to
from penstock.control.history import history_of
from penstock.control.rollout_decisions import Verb
from penstock.control.state import ModelState
from penstock.controller.convergence import Convergence
from penstock.controller.upkeep import Upkeep
from penstock.errors import ControlError, MoveRefused, Unknown
from penstock.rollout.declared import Plan
from penstock.rollout.plan import Action
from penstock.routing import CHAMPION, listed


class LocalOperations:
    """`Operations` on the state and the repository themselves. Thread-safe. `known` says what is known now of the
    rollout of a model, in the process that judges it; `shadow` what is known of a model's shadow on this machine.
    """

    def __init__(
        self,
        control: Control,
        convergence: Convergence,
        upkeep: Upkeep,
        *,
        apply_s: float,
        node: str = "",
        known: Callable[[str], tuple[Judged, Action | None] | None] = lambda name: None,
        shadow: Callable[[ModelState], ShadowAnswer | None] = lambda model: None,
        experiment: Callable[[str], ExperimentAnswer],
    ) -> None:
        self._control = control
        self._convergence = convergence
        self._upkeep = upkeep
        self._apply_s = apply_s
        self._known = known
        self._node = node
        self._shadow = shadow
        self._experiment = experiment

    def publish(self, bundle: Path, by: By, alias: str | None = None) -> PublishAnswer:
        """Make a bundle the next version of its model, and wait until it is served if it is to be."""
        name, version, events = self._control.publish(bundle, by)
        move = self._answer(name, events, CHAMPION) if any(isinstance(one.change, Moved) for one in events) else None
        if alias is not None:
            try:
                move = self.move(name, alias, version.number, msgspec.structs.replace(by, if_revision=None))
            except MoveRefused as refused:
                what = f"version {version.number} of {name!r} is published, and {alias} does not move to it"
                raise MoveRefused(what, refused.reasons, may_force=refused.may_force) from refused
        return PublishAnswer(
            model=name, version=version.number, digest=version.published.digest, is_new=bool(events), move=move
        )

    def move(self, model: str, alias: str, version: int | None, by: By) -> MoveAnswer:
        """Give an alias to a version, or take it away, and wait until the workers have applied it."""
        return self._answer(model, self._control.move(model, alias, version, by), alias_of(alias) or alias)

    def rollback(self, model: str, by: By) -> MoveAnswer:
        """Make the champion before this one the champion again, and wait as `move` does."""
        return self._answer(model, self._control.rollback(model, by), CHAMPION)

    def weigh(self, model: str, experiment: Experiment | None, by: By) -> WeighAnswer:
        """Begin an experiment of a model, change the weights of its arms, or end it (None); wait as `move` does."""
        events = self._control.weigh(model, experiment, by)
        state = self._control.state().model(model)
        changed = next((event.change for event in events if isinstance(event.change, Weighed)), None)
        for number in () if changed is not None else sorted(state.arms):
            if self._convergence.unfit(model, number) is not None:
                self._convergence.try_again(model, number)
        revision = events[-1].revision if events else state.revision
        waits_for = self._convergence.wait(revision, self._apply_s, {model})
        return WeighAnswer(
            model=model,
            before=state.experiment if changed is None else changed.before,
            after=state.experiment if changed is None else changed.after,
            revision=revision,
            is_changed=changed is not None,
            is_applied=not waits_for,
            waits_for=waits_for,
            unserved=[why for number in sorted(state.arms) if (why := self._convergence.unfit(model, number))],
            overruled=[] if changed is None else list(changed.overruled),
        )

    def experiment(self, model: str) -> ExperimentAnswer:
        """How the last experiment of a model stands."""
        return self._experiment(model)

    def start_rollout(self, model: str, version: int, plan: Plan, by: By) -> RolloutAnswer:
        """Begin a rollout of a version, and wait until the workers have its first weights, if it has some."""
        self._control.start_rollout(model, version, plan, by, node=self._node)
        return self._rollout(model, waits_for=self._waits_for(model, version, self._control.state().revision))

    def rollout(self, model: str) -> RolloutAnswer:
        """How the last rollout of a model stands."""
        return self._rollout(model)

    def tell_rollout(self, model: str, verb: Verb, by: By) -> RolloutAnswer:
        """What a person says of the rollout that is under way, and wait as `start_rollout` does."""
        why = by.reason or ""
        self._control.roll(model, by, lambda state: rollout_decisions.told(state, model, verb, why))
        return self._rollout(model, waits_for=self._waits_for(model, None, self._control.state().revision))

    def remove(self, model: str, version: int, by: By) -> None:
        """Remove a version that nothing refers to."""
        self._control.remove(model, version, by)
        self._convergence.wake()

    def models(self) -> list[ModelAnswer]:
        """All models, by name."""
        models = self._control.state().models
        return [self._told(models[name]) for name in sorted(models)]

    def model(self, name: str) -> ModelAnswer:
        """One model."""
        return self._told(self._control.state().model(name))

    def history(self, model: str, at: datetime | None = None) -> HistoryAnswer:
        """What happened to a model, and with `at` what it was then."""
        events = self._control.events()
        if not any(event.model == model for event in events):  # a log may be of models that were never published
            self._control.state().model(model)
        return history_of(model, events, at)

    def apply(self, declared: str, by: By, *, is_dry: bool = False) -> ApplyAnswer:
        """Make the state what the YAML text `declared` says, or with `is_dry` only say what would change."""
        steps = steps_to(read_declared(declared), self._control.state())
        told_steps = differences(steps)
        if is_dry or not steps:
            return ApplyAnswer(differences=told_steps, is_dry=is_dry, is_applied=not is_dry)
        models = {step.model for step in steps}
        if by.if_revision is not None and len(models) > 1:
            raise ControlError(f"the revision that you had read is of one model, and this changes {listed(models)}")
        for step in steps:
            if isinstance(step, Configure):
                self._control.configure(step.model, step.after, by)
            else:
                self._control.move(step.model, step.alias, step.after, by)
            by = msgspec.structs.replace(by, if_revision=None)  # it is ours since
        waits_for = self._convergence.wait(self._control.state().revision, self._apply_s, models)
        moves = ((step.model, step.after) for step in steps if isinstance(step, Move) and step.after is not None)
        unfit = [why for move in moves if (why := self._convergence.unfit(*move)) is not None]
        return ApplyAnswer(
            differences=told_steps, is_dry=False, is_applied=not (waits_for or unfit), waits_for=[*unfit, *waits_for]
        )

    def collect_garbage(self, by: By, *, is_dry: bool = False) -> GarbageAnswer:
        """Remove versions by rule, and files that nothing refers to."""
        return self._upkeep.collect(by, is_dry=is_dry)

    def seal(self, by: By) -> SealAnswer:
        """Seal the segments of the log that no worker writes, and remove what retention lets go."""
        return self._upkeep.seal()

    def erase(self, wanted: Wanted, by: By) -> EraseAnswer:
        """Take payloads of records out of the log for good, by request id or by key; the chain still proves itself."""
        return self._upkeep.erase(wanted, by)

    def back_up(self, directory: Path) -> None:
        """Write a copy of the state, the bundles and the log to a new directory."""
        self._upkeep.back_up(directory)

    def _rollout(self, name: str, waits_for: Sequence[str] = ()) -> RolloutAnswer:
        rollout = self._control.state().model(name).rollout
        if rollout is None:
            raise Unknown(f"{name!r} has had no rollout: `penstock rollout start {name} VERSION` starts one")
        judged, action = self._known(name) or (None, None)
        return RolloutAnswer(
            model=name,
            rollout=rollout,
            percent=rollout.percent,
            judged=judged,
            action=action,
            waits_for=list(waits_for),
        )

    def _answer(self, name: str, events: list[Event], alias: str) -> MoveAnswer:
        state = self._control.state()
        model = state.model(name)
        moved = next((event for event in reversed(events) if isinstance(event.change, Moved)), None)
        change = None if moved is None else moved.change
        if not isinstance(change, Moved):
            now = model.aliases.get(alias)
            change = Moved(alias=alias, before=now, after=now)
        # Who asks for what the state says already, and what is not served here for a reason, wants another try.
        if moved is None and change.after is not None and self._convergence.unfit(name, change.after) is not None:
            self._convergence.try_again(name, change.after)
        revision = model.revision if moved is None else moved.revision
        waits_for = self._waits_for(name, change.after, revision)
        return MoveAnswer(
            model=name,
            alias=change.alias,
            before=change.before,
            after=change.after,
            revision=revision,
            is_changed=moved is not None,
            is_applied=not waits_for,
            waits_for=waits_for,
            overruled=list(change.overruled),
        )

    def _told(self, model: ModelState) -> ModelAnswer:
        return msgspec.structs.replace(told(model), shadow=self._shadow(model))

    def _waits_for(self, name: str, number: int | None, revision: int) -> list[str]:
        lagging = self._convergence.wait(revision, self._apply_s, {name})
        why = None if number is None else self._convergence.unfit(name, number)
        return lagging if why is None else [why]


def told(model: ModelState) -> ModelAnswer:
    """A model as operators are told of it."""
    return ModelAnswer(
        name=model.name,
        revision=model.revision,
        aliases=dict(sorted(model.aliases.items())),
        moved={alias: event for alias, event in sorted(model.moved.items()) if alias in model.aliases},
        serving=model.serving,
        rollback_to=model.rollback_to,
        config=model.config,
        versions=[_version(model, number) for number in sorted(model.present)],
        experiment=model.experiment,
    )


def _version(model: ModelState, number: int) -> VersionAnswer:
    version = model.versions[number]
    published = version.published
    return VersionAnswer(
        number=number,
        digest=published.digest,
        published_at=version.at,
        published_by=version.who.name,
        flavour=published.flavour,
        size_bytes=published.size_bytes,
        aliases=sorted(alias for alias, named in model.aliases.items() if named == number),
        serves_on=sorted(node for node, aliases in model.serving.items() if number in aliases.values()),
        failures=version.failures,
        metrics=published.metrics,
        evaluation_set=published.evaluation_set,
        lineage=published.lineage,
    )
