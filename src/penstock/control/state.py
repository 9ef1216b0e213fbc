"""The state, derived: events folded one by one. Pure; the same events give the same state everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import reduce
from typing import Any, Final

import msgspec

from penstock.assignment import Experiment
from penstock.control.changes import (
    Configured,
    Event,
    LogChange,
    ModelConfig,
    Moved,
    Published,
    Removed,
    Rolled,
    Serving,
    Tried,
    Weighed,
    Who,
)
from penstock.control.rollouts import RolloutState, rolled
from penstock.errors import Unknown
from penstock.routing import CHAMPION, listed


class VersionState(msgspec.Struct, frozen=True):
    """A published version: what was published, when and by whom. `failures` say per machine why it cannot be loaded."""

    published: Published
    at: datetime
    who: Who
    is_removed: bool = False
    tried: frozenset[str] = frozenset()
    failures: dict[str, str] = {}

    @property
    def number(self) -> int:
        """The version's number."""
        return self.published.version


class Begun(msgspec.Struct, frozen=True):
    """The event by which the last experiment began, and the version that was champion then."""

    event: Event
    champion: int | None


class ModelState(msgspec.Struct, frozen=True):
    """What is known of a model.

    `moved` is the event that moved each alias last. `champions` is what `rollback` goes back along, the present one
    last; `recent` are the versions that were champion, the latest first. `serving` is, per machine, which version each
    alias answers by. `rollout` is the last one, `aborted` say of contents (by digest) which rollout of them was aborted
    and why; `begun` is of the last experiment, over or not. `revision` is that of the last change that somebody asked
    for: what machines try and serve does not count, so that whoever insists on the revision that he read is not turned
    away by it.
    """

    name: str
    versions: dict[int, VersionState] = {}
    aliases: dict[str, int] = {}
    moved: dict[str, Event] = {}
    champions: tuple[int, ...] = ()
    recent: tuple[int, ...] = ()
    config: ModelConfig = ModelConfig()
    experiment: Experiment | None = None
    begun: Begun | None = None
    serving: dict[str, dict[str, int]] = {}
    rollout: RolloutState | None = None
    aborted: dict[str, str] = {}
    revision: int = 0

    def version(self, number: int) -> VersionState:
        """A version that is there. Raises Unknown naming those that are."""
        found = self.versions.get(number)
        if found is None or found.is_removed:
            was = " (it was removed)" if found is not None else ""
            raise Unknown(f"no version {number} of {self.name!r}{was}; there is {listed(self.present)}")
        return found

    @property
    def present(self) -> list[int]:
        """The numbers of the versions that are there."""
        return [number for number, version in self.versions.items() if not version.is_removed]

    @property
    def arms(self) -> set[int]:
        """The versions that arms of its experiment name by number, those that are there."""
        return set() if self.experiment is None else self.experiment.versions & set(self.present)

    def aliases_of(self, number: int) -> list[str]:
        """The aliases that name a version, in order."""
        return sorted(alias for alias, named in self.aliases.items() if named == number)

    @property
    def next_version(self) -> int:
        """The number that the next bundle gets; those of removed versions are not given again."""
        return max(self.versions, default=0) + 1

    @property
    def rollback_to(self) -> int | None:
        """The version that `rollback` would make the champion again; None where there was none before."""
        return self.champions[-2] if len(self.champions) > 1 else None

    def with_digest(self, digest: str) -> VersionState | None:
        """The version of this content digest that is there."""
        versions = (self.versions[number] for number in self.present)
        return next((version for version in versions if version.published.digest == digest), None)


class State(msgspec.Struct, frozen=True):
    """All models at a revision, and the time of its event."""

    models: dict[str, ModelState] = {}
    revision: int = 0
    at: datetime | None = None

    def model(self, name: str) -> ModelState:
        """A model. Raises Unknown naming those that there are."""
        if name not in self.models:
            raise Unknown(f"no model {name!r}; there is {listed(self.models)}")
        return self.models[name]


EMPTY: Final = State()


def folded(events: Iterable[Event], state: State = EMPTY) -> State:
    """`state` after `events`. Raises ValueError for an event that does not follow."""
    return reduce(after, events, state)


def after(state: State, event: Event) -> State:
    """`state` after one event. Raises ValueError unless it is the next one, and of a version that there is."""
    if event.revision != state.revision + 1:
        raise ValueError(f"Expected event {state.revision + 1}, got {event.revision}: one is missing or twice")
    if isinstance(event.change, LogChange):
        return State(state.models, event.revision, event.at)
    model = state.models.get(event.model, ModelState(event.model))
    try:
        changed = _FOLDS[type(event.change)](model, event, event.change)
    except KeyError as error:
        raise ValueError(
            f"event {event.revision} is of version {error} of {event.model!r}, which there is not"
        ) from error
    if not isinstance(event.change, Tried | Serving):
        changed = msgspec.structs.replace(changed, revision=event.revision)
    return State({**state.models, event.model: changed}, event.revision, event.at)


def _published(model: ModelState, event: Event, change: Published) -> ModelState:
    version = VersionState(change, event.at, event.who)
    return msgspec.structs.replace(model, versions={**model.versions, change.version: version})


def _moved(model: ModelState, event: Event, change: Moved) -> ModelState:
    aliases = {name: number for name, number in model.aliases.items() if name != change.alias}
    if change.after is not None:
        aliases[change.alias] = model.versions[change.after].number
    model = msgspec.structs.replace(model, aliases=aliases, moved={**model.moved, change.alias: event})
    if change.alias != CHAMPION or change.after is None:
        return model
    champions = model.champions[:-1] if change.is_rollback else (*model.champions, change.after)
    recent = (change.after, *(number for number in model.recent if number != change.after))
    return msgspec.structs.replace(model, champions=champions, recent=recent)


def _removed(model: ModelState, event: Event, change: Removed) -> ModelState:
    gone = msgspec.structs.replace(model.versions[change.version], is_removed=True)
    return msgspec.structs.replace(
        model,
        versions={**model.versions, change.version: gone},
        champions=_without_repeats(number for number in model.champions if number != change.version),
        recent=tuple(number for number in model.recent if number != change.version),
    )


def _configured(model: ModelState, event: Event, change: Configured) -> ModelState:
    return msgspec.structs.replace(model, config=change.after)


def _weighed(model: ModelState, event: Event, change: Weighed) -> ModelState:
    is_new = change.after is not None and (model.experiment is None or model.experiment.id != change.after.id)
    begun = Begun(event, model.aliases.get(CHAMPION)) if is_new else model.begun
    return msgspec.structs.replace(model, experiment=change.after, begun=begun)


def _tried(model: ModelState, event: Event, change: Tried) -> ModelState:
    version = model.versions[change.version]
    failures = {node: why for node, why in version.failures.items() if node != change.node}
    if change.why is not None:
        failures[change.node] = change.why
    tried = version.tried | {change.node} if change.why is None else version.tried - {change.node}
    version = msgspec.structs.replace(version, tried=tried, failures=failures)
    return msgspec.structs.replace(model, versions={**model.versions, change.version: version})


def _serving(model: ModelState, event: Event, change: Serving) -> ModelState:
    serving = {node: aliases for node, aliases in model.serving.items() if node != change.node}
    if change.after:
        serving[change.node] = dict(change.after)
    return msgspec.structs.replace(model, serving=serving)


def _rolled(model: ModelState, event: Event, change: Rolled) -> ModelState:
    rollout = rolled(model.rollout, change, event.at, event.who)
    aborted = {digest: why for digest, why in model.aborted.items() if digest != rollout.digest}
    if rollout.status == "aborted":
        aborted[rollout.digest] = f"rollout {rollout.id}: {'; '.join(one.text for one in change.why)}"
    return msgspec.structs.replace(model, rollout=rollout, aborted=aborted)


def _without_repeats(numbers: Iterable[int]) -> tuple[int, ...]:
    kept: list[int] = []
    for number in numbers:
        if not kept or kept[-1] != number:
            kept.append(number)
    return tuple(kept)


_FOLDS: Final[Mapping[type, Callable[[ModelState, Event, Any], ModelState]]] = {
    Published: _published,
    Moved: _moved,
    Removed: _removed,
    Configured: _configured,
    Weighed: _weighed,
    Tried: _tried,
    Serving: _serving,
    Rolled: _rolled,
}
