"""What operators do, on one store and one repository: each command reads the state, decides, and appends events.

Several may run at once, in this process and in others: events have consecutive revisions, so one of two that decide on
the same state finds its revision taken, reads what is new, and decides again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec

from penstock.assignment import Experiment
from penstock.control import decisions, rollout_decisions
from penstock.control.aliases import alias_of
from penstock.control.changes import Change, Event, LogChange, ModelConfig, Published, Serving, Tried, Who
from penstock.control.state import EMPTY, ModelState, State, VersionState, folded
from penstock.control.store import EventStore, RevisionTaken
from penstock.errors import Conflict, MoveRefused, StateUnavailable, Unknown
from penstock.rollout.declared import Plan
from penstock.routing import CHAMPION, ModelOptions

_ATTEMPTS: Final = 20
_TICK: Final = timedelta(microseconds=1)


class By(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks and why. `if_revision` is the model's revision that was read before, where the caller insists on it."""

    who: Who
    reason: str | None = None
    if_revision: int | None = None
    is_forced: bool = False

    @property
    def is_overruling(self) -> bool:
        """Whether what speaks against it is overruled: that needs a reason."""
        return self.is_forced and bool(self.reason)


class Stored(Protocol):
    """The repository's bundles, as commands need them."""

    def add(self, bundle: Path) -> tuple[str, Published]:
        """Store a bundle's files by digest: the model's name, and what is published (its number not yet given)."""
        ...


class Gate(Protocol):
    """What speaks against a move."""

    def reasons(self, state: State, name: str, alias: str, number: int) -> tuple[list[str], list[str]]:
        """Why `alias` should not move to version `number`: what stands in any case, and what `--force` overrules."""
        ...

    def misfits(self, model: ModelState, options: ModelOptions, numbers: Iterable[int]) -> list[str]:
        """Why `options` do not fit versions of `model`."""
        ...


class Control:
    """The commands. Thread-safe; `on_change` hears of each new state, in the thread that made it."""

    def __init__(
        self,
        store: EventStore,
        repository: Stored,
        gate: Gate,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_change: Callable[[State], None] = lambda state: None,
    ) -> None:
        self._store = store
        self._repository = repository
        self._gate = gate
        self._clock = clock
        self._on_change = on_change
        self._state = EMPTY
        self._events: list[Event] = []
        self._lock = threading.RLock()
        self._failure: StateUnavailable | None = None  # of the last look
        self._failures = 0

    def state(self) -> State:
        """The state as the store has it now. Raises StateUnavailable."""
        seen = self._failures
        with self._lock:
            if self._failure is not None and self._failures != seen:
                # It was found away while this one waited: a hundred that ask then do not wait a hundred times.
                raise StateUnavailable(str(self._failure)) from self._failure
            try:
                fresh = self._store.since(self._state.revision)
            except StateUnavailable as error:
                self._failure, self._failures = error, self._failures + 1
                raise
            self._failure = None
            if fresh:
                self._state = folded(fresh, self._state)
                self._events += fresh
                self._on_change(self._state)
            return self._state

    def events(self) -> list[Event]:
        """All events, oldest first. Raises StateUnavailable."""
        self.state()
        with self._lock:
            return list(self._events)

    def publish(self, bundle: Path, by: By) -> tuple[str, VersionState, list[Event]]:
        """The bundle as a version of the model that its manifest names: a new one, or the one of the same content.

        Gives the model's name, the version, and what happened: nothing if it was there. The first version of a model
        becomes its champion. Raises BundleRefused, Conflict, RepositoryUnavailable and StateUnavailable.
        """
        name, published = self._repository.add(bundle)
        events = self._commit(name, by, lambda state: decisions.publish(state, name, published))
        version = self.state().model(name).with_digest(published.digest)
        if version is None:
            raise Conflict(f"the version of {name!r} that was just published has been removed again")
        return name, version, events

    def move(self, name: str, alias: str, number: int | None, by: By) -> list[Event]:
        """Give `alias` (a stage's name is one, too) to version `number`, or take it away from all.

        Raises Unknown, MoveRefused, Conflict, InUse and StateUnavailable.
        """
        meant = alias_of(alias)
        if meant is None:
            return self._archive(name, number, by)
        if number is None:
            return self._commit(name, by, lambda state: decisions.move(state, name, meant, None))
        return self._judged(name, meant, number, by)

    def deploy(self, name: str, number: int, by: By) -> list[Event]:
        """Make version `number` the champion; as `move`."""
        return self.move(name, CHAMPION, number, by)

    def rollback(self, name: str, by: By) -> list[Event]:
        """Make the champion before this one the champion again: it is not tried, for it has been served.

        Raises Unknown, Conflict, StateUnavailable, and MoveRefused where what is declared since does not fit it.
        """
        model = self.state().model(name)
        back = model.rollback_to
        if misfits := self._gate.misfits(model, model.config.options, [] if back is None else [back]):
            what = f"champion of {name!r} stays, and does not go back to version {back}"
            raise MoveRefused(what, misfits, may_force=False)
        return self._commit(name, by, lambda state: decisions.rollback(state, name))

    def remove(self, name: str, number: int, by: By) -> list[Event]:
        """Remove a version that nothing refers to; its files go with the next garbage collection. Raises InUse."""
        return self._commit(name, by, lambda state: decisions.remove(state, name, number, is_forced=by.is_overruling))

    def configure(self, name: str, config: ModelConfig, by: By) -> list[Event]:
        """Replace what is declared of a model. Raises MoveRefused, Unknown, Conflict and StateUnavailable."""
        model = self.state().model(name)
        named = sorted(set(model.aliases.values())) if config.options != model.config.options else []
        if misfits := self._gate.misfits(model, config.options, named):
            raise MoveRefused(f"what is declared of {name!r} stays as it is", misfits, may_force=False)
        return self._commit(name, by, lambda state: decisions.configure(state, name, config))

    def weigh(self, name: str, experiment: Experiment | None, by: By) -> list[Event]:
        """Begin an experiment, change its weights, or end it (None); what its arms own is decided by `decisions.weigh`.

        A version that becomes an arm is judged as one that an alias of that name is to move to; a change of weights
        alone is not, so that it waits for nothing. Raises Unknown, MoveRefused, Conflict, StateUnavailable, and InUse
        while a rollout of the model is under way.
        """
        for _ in range(_ATTEMPTS):
            state = self.state()
            model = state.model(name)
            decisions.require_revision(state, name, by.if_revision)
            rollout_decisions.require_none(model)
            decisions.weigh(state, name, experiment)  # what cannot be is said before anything is tried
            soft = [] if experiment is None else self._judged_arms(state, model, experiment, by)
            weighed = partial(decisions.weigh, name=name, experiment=experiment, overruled=soft)
            try:
                return self._commit(name, msgspec.structs.replace(by, if_revision=model.revision), weighed)
            except Conflict:
                if by.if_revision is not None:
                    raise
        raise Conflict(f"others change {name!r} all the time: it did not come to it within {_ATTEMPTS} attempts")

    def _judged_arms(self, state: State, model: ModelState, experiment: Experiment, by: By) -> list[str]:
        """What speaks against the versions that become arms, and is overruled."""
        found = []
        for arm in experiment.arms:
            if arm.version is None or arm.version in model.arms or arm.version in model.aliases.values():
                continue
            final, soft = self._gate.reasons(state, model.name, arm.name, arm.version)
            if final or (soft and not by.is_overruling):
                what = f"version {arm.version} of {model.name!r} does not become the arm {arm.name!r}"
                raise MoveRefused(what, [*final, *soft], may_force=not final)
            found += soft
        return found

    def note(self, name: str, seen: Tried | Serving, who: Who) -> list[Event]:
        """Add what a machine has seen, where that is new. Raises StateUnavailable."""
        return self._commit(name, By(who=who), lambda state: decisions.note(state, name, seen))

    def start_rollout(self, name: str, number: int, plan: Plan, by: By, *, node: str = "") -> list[Event]:
        """Begin a rollout of version `number`, judged by `node`, unless something speaks against its being champion.

        Raises Unknown, MoveRefused, Conflict, InUse and StateUnavailable.
        """
        state = self.state()
        state.model(name).version(number)
        final, soft = self._gate.reasons(state, name, CHAMPION, number)
        if final or (soft and not by.is_overruling):
            what = f"no rollout of version {number} of {name!r} is started"
            raise MoveRefused(what, [*final, *soft], may_force=not final)
        forced = by.is_overruling
        begin = partial(rollout_decisions.start, name=name, number=number, plan=plan, node=node, is_forced=forced)
        return self.roll(name, by, begin)

    def roll(self, name: str, by: By, decide: Callable[[State], Sequence[Change]]) -> list[Event]:
        """Append what `decide` makes of a rollout of the model; see `rollout_decisions.py`, whose errors it raises."""
        return self._commit(name, by, decide)

    def note_log(self, name: str, change: LogChange, by: By) -> list[Event]:
        """Add what happened to the log, of the model `name` or of several (empty). Raises StateUnavailable."""
        return self._commit(name, msgspec.structs.replace(by, if_revision=None), lambda state: [change])

    def _archive(self, name: str, number: int | None, by: By) -> list[Event]:
        if number is None:
            raise Unknown("Archived is the absence of an alias: name the version that is to have none")
        return self._commit(name, by, lambda state: decisions.archive(state, name, number))

    def _judged(self, name: str, alias: str, number: int, by: By) -> list[Event]:
        """Move, unless something speaks against it; judged anew where the model was changed in the meantime."""
        for _ in range(_ATTEMPTS):
            state = self.state()
            model = state.model(name)
            decisions.require_revision(state, name, by.if_revision)
            model.version(number)
            final, soft = (
                ([], []) if model.aliases.get(alias) == number else self._gate.reasons(state, name, alias, number)
            )
            if final or (soft and not by.is_overruling):
                what = f"{alias} of {name!r} stays, and does not move to version {number}"
                raise MoveRefused(what, [*final, *soft], may_force=not final)
            moved = partial(decisions.move, name=name, alias=alias, number=number, overruled=soft)
            try:
                return self._commit(name, msgspec.structs.replace(by, if_revision=model.revision), moved)
            except Conflict:
                if by.if_revision is not None:
                    raise
        raise Conflict(f"others change {name!r} all the time: it did not come to it within {_ATTEMPTS} attempts")

    def _commit(self, name: str, by: By, decide: Callable[[State], Sequence[Change]]) -> list[Event]:
        """Append what `decide` makes of the newest state; again when somebody else was faster."""
        with self._lock:
            for _ in range(_ATTEMPTS):
                state = self.state()
                decisions.require_revision(state, name, by.if_revision)
                events = self._stamped(state, name, by, decide(state))
                if not events:
                    return []
                try:
                    self._store.append(events)
                except RevisionTaken:
                    continue
                self.state()
                return events
        raise Conflict(f"others change {name!r} all the time: it did not come to it within {_ATTEMPTS} attempts")

    def _stamped(self, state: State, name: str, by: By, changes: Sequence[Change]) -> list[Event]:
        at = self._clock()
        if state.at is not None and at <= state.at:
            at = state.at + _TICK  # the clock went back: the order of events is still that of their times
        return [
            Event(
                revision=state.revision + 1 + place,
                at=at + place * _TICK,
                who=by.who,
                model=name,
                change=change,
                reason=by.reason,
            )
            for place, change in enumerate(changes)
        ]
