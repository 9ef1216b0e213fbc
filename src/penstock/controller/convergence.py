"""Makes this machine serve what the state says: bundles are fetched and tried, `routing.json` is replaced, the workers
are told, and what they really serve is noted.

A version that cannot be served here is left out, and what was served before stays. That is tried again when an alias of
the model is moved, when somebody asks for the same again, or when the controller starts again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from penstock.control.changes import Serving, Tried, Who
from penstock.control.control import Control
from penstock.control.state import ModelState, State
from penstock.control.wanted import served_aliases, wanted_of, wanted_versions
from penstock.controller.shelf import Found, Key, Shelf, Unfit
from penstock.errors import ControlError, PenstockError
from penstock.routing import NOTHING, RoutingTable, Wanted, read_wanted, write_wanted

_LOG = logging.getLogger("penstock")
_POLL_S: Final = 1.0
_AGAIN_S: Final = 5.0
PENSTOCK: Final = Who("penstock", is_verified=True)
NO_SERVER: Final = "no server runs here: the next `penstock serve` of this home serves it"
STOPPING: Final = "the server is stopping: its next start serves it"


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine: its name in the history, its home, since when its server runs (None: not known), and its settings."""

    name: str
    home: Path
    serves_since: datetime | None = None
    default_model: str | None = None
    kept: int = 1


class Convergence:
    """One machine's way to the wanted state. `run` in a thread of its own; everything else from any thread."""

    def __init__(
        self, control: Control, shelf: Shelf, node: Node, *, tell: Callable[[int], bool] | None = None
    ) -> None:
        """`tell` passes the revision of a `routing.json` to the supervisor, if it can; None where no server runs."""
        self._control = control
        self._shelf = shelf
        self._node = node
        self._tell = tell
        self._inherited = self._wanted = read_wanted(node.home)  # what workers began with, for all that is known
        shelf.stock(self._wanted)
        self._told = 0  # the revision of the last `routing.json` that the supervisor was told of
        self._decided = 0  # the revision of the state that `_wanted` is made of
        self._awaited: dict[str, list[str]] = {}  # by model, what an alias names and what is not there yet
        self._served: Wanted | None = None  # the last of each model that all workers served
        self._revisions: dict[int, int] = {}  # of the `routing.json` that each worker serves
        self._failures: dict[str, str] = {}  # by `name/version`, what workers could not load
        self._failures_of = 0  # the revision of the `routing.json` that these are of
        self._unsaid: list[tuple[str, Tried]] = []  # failures that are to go into the history
        self._is_over = self._is_woken = False
        self._again: set[Key] = set()  # versions of the table that workers could not load, to be tried again
        self._has_begun = False
        self._said = ""
        self._changed = threading.Condition()
        self._deciding = threading.Lock()

    def run(self) -> None:
        """Converge until `end`; the database and the repository may come and go."""
        while not self._is_over:
            wait_s = _POLL_S if self._converge() else _AGAIN_S
            with self._changed:
                self._changed.wait_for(lambda: self._is_woken or self._is_over, wait_s)
                self._is_woken = False

    def wake(self) -> None:
        """The state has changed, or may have."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def end(self) -> None:
        """End `run`, and let go whoever waits."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def farewell(self) -> None:
        """Note that nothing is served here any more: once `run` has ended, and the server with it."""
        try:
            self._note({name: {} for name in self._control.state().models})
        except PenstockError as error:
            _LOG.warning("that this machine stops is not in the history: %s", error)

    def decide(self) -> Wanted:
        """Write `routing.json` anew if the state asks for it. Raises ControlError, and OSError as writing does."""
        with self._deciding:
            state, served = self._control.state(), self._served
            paths = {name: self._paths(state, model, served) for name, model in state.models.items()}
            wanted = wanted_of(
                state,
                paths,
                before=served or self._wanted,
                default_model=self._node.default_model,
                kept=self._node.kept,
                node=self._node.name,
            )
            failures = self._reasons(state, wanted)
            wanted = msgspec.structs.replace(wanted, revision=self._wanted.revision, failures=failures)
            again = {(name, number) for name, number in self._again if self._shelf.has(name, number)}
            if wanted != self._wanted or again:
                # It may change while the state does not, as when the repository is there again.
                revision = max(state.revision, self._wanted.revision + 1)
                wanted = msgspec.structs.replace(wanted, revision=revision)
                write_wanted(self._node.home, wanted)
            with self._changed:
                self._wanted, self._decided, self._again = wanted, state.revision, self._again - again
                self._awaited = {name: self._missing(model, paths[name]) for name, model in state.models.items()}
                self._look()
            self._pass_on()
            return wanted

    def stands(self, revisions: Mapping[int, int], failures: Mapping[str, str], revision: int) -> None:
        """The supervisor tells which `routing.json` each worker serves, and by `name/version` what could not be loaded
        of the one of `revision`. Does no IO.
        """
        with self._changed:
            self._revisions, self._failures, self._failures_of = dict(revisions), dict(failures), revision
            self._look()
        self.wake()

    def wait(self, revision: int, within_s: float, names: Collection[str]) -> list[str]:
        """Wait until all workers serve the state of `revision`, as far as these models go: those that do not, or why it
        cannot be; empty when all do. Without a server, only write `routing.json`.
        """
        if self._tell is None:
            return [NO_SERVER] if self._converge() else [NO_SERVER, self._said]
        until_s = time.monotonic() + within_s
        aim: int | None = None
        self.wake()
        with self._changed:
            while True:
                aim = self._aim(revision, names) if aim is None else aim
                if aim is not None and self._is_at(aim):
                    return []
                left_s = until_s - time.monotonic()
                if self._is_over or left_s <= 0:
                    return [STOPPING] if self._is_over else self._lagging(revision, aim, names)
                self._changed.wait(left_s)

    def unfit(self, name: str, number: int) -> str | None:
        """Why a version that is wanted is not served here; None if nothing speaks against it."""
        unfit = self._shelf.unfit(name, number)
        return None if unfit is None else unfit.why

    def try_again(self, name: str, number: int) -> None:
        """Somebody asks for what the state says already: a version that was found unfit gets another try."""
        with self._changed:
            self._forgive(name, [number], self._decided + 1)
            self._awaited[name] = ["the controller, which has yet to try again"]
        self.wake()

    def _converge(self) -> bool:
        """One round; False when it failed, which is logged once."""
        try:
            self._say_failures()
            self._begin()
            self.decide()
            self._note_serving()
        except (ControlError, OSError) as error:  # what is served goes on
            if self._said != str(error):
                _LOG.error("this machine cannot follow the wanted state: %s; it is tried again", error)
            self._said = str(error)
            return False
        if self._said:
            _LOG.info("this machine follows the wanted state again")
            self._said = ""
        return True

    def _begin(self) -> None:
        """Once: what the history says to be served here, and was by a server that ended without a word, has ended."""
        since = self._node.serves_since
        if self._has_begun:
            return
        if since is not None:
            spoken = [event for event in self._control.events() if _is_of(event.change, self._node.name)]
            if spoken and spoken[-1].at < since:
                self._note({name: {} for name in self._control.state().models})
        self._has_begun = True

    def _forgive(self, name: str, numbers: Iterable[int], moved_at: int) -> None:
        """Versions found unfit before get another try; workers that could not load them are told again after it."""
        table = self._wanted.table.models.get(name)
        for number in numbers:
            if self._shelf.forgive(name, number, moved_at):
                self._failures.pop(f"{name}/{number}", None)
                if table is not None and number in table.versions:
                    self._again.add((name, number))

    def _paths(self, state: State, model: ModelState, served: Wanted | None) -> dict[int, str]:
        """Where the versions of a model lie that can be served here."""
        moved_at = max((event.revision for event in model.moved.values()), default=0)
        with self._changed:
            self._forgive(model.name, {*model.aliases.values(), *model.arms}, moved_at)
        numbers = wanted_versions(model, self._node.kept, served or self._wanted, self._node.name)
        shelved = {number: self._shelf.path(model, number, state.revision) for number in numbers}
        found = {number: path for number, path in shelved.items() if path is not None}
        # What all workers have served is not taken from them because one that has come since cannot load it; nor is
        # what they began with, while there is nothing else.
        if served is not None:
            return {**_answering(served, model), **found}
        return found or _answering(self._inherited, model)

    def _reasons(self, state: State, wanted: Wanted) -> dict[str, str]:
        """Why what aliases name is not in the table, by `name/version`."""
        tables = wanted.table.models
        return {
            f"{name}/{number}": unfit.why
            for name, model in sorted(state.models.items())
            for number in sorted({*served_aliases(model).values(), *model.arms})
            if not (name in tables and number in tables[name].versions)
            and (unfit := self._shelf.unfit(name, number)) is not None
        }

    def _missing(self, model: ModelState, paths: Mapping[int, str]) -> list[str]:
        return [
            self._shelf.awaited(model.name, number)
            for number in sorted({*model.aliases.values(), *model.arms})
            if (number not in paths or (model.name, number) in self._again)
            and self._shelf.unfit(model.name, number) is None
        ]

    def _pass_on(self) -> None:
        """Tell the supervisor of a `routing.json` that workers do not serve, be it of a command that ran without us."""
        with self._changed:
            revision = self._wanted.revision
            is_news = self._told < revision and not self._is_at(revision)
        if is_news and self._tell is not None and self._tell(revision):
            self._told = revision

    def _refuse(self, name: str, number: int, why: str) -> None:
        """A version of the table failed in a worker; the lock is held."""
        table = self._wanted.table.models.get(name)
        if table is None or number not in table.versions:
            return
        told = f"version {number} cannot be served here: {why}"
        if self._shelf.refuse(name, number, Unfit(self._decided, told)):
            _LOG.error("%s: %s", name, told)
            self._unsaid.append((name, Tried(version=number, node=self._node.name, why=why)))

    def _recover(self) -> None:
        """What was found unfit and all workers serve now is so no more; the lock is held."""
        if not self._is_at(self._wanted.revision):
            return
        for name, routes in self._wanted.table.models.items():
            for number, digest in routes.versions.items():
                if f"{name}/{number}" not in self._failures and self._shelf.unfit(name, number) is not None:
                    self._shelf.accept(name, number, Found(digest, self._wanted.paths[name][number]))
                    self._unsaid.append((name, Tried(version=number, node=self._node.name)))

    def _say_failures(self) -> None:
        while self._unsaid:
            name, tried = self._unsaid[0]
            self._control.note(name, tried, PENSTOCK)
            self._unsaid.pop(0)

    def _is_at(self, revision: int) -> bool:
        """Whether all workers serve a `routing.json` or a later one; not before there are any. The lock is held."""
        return bool(self._revisions) and min(self._revisions.values()) >= revision

    def _look(self) -> None:
        """Something has changed that somebody may wait for; the lock is held."""
        if self._revisions and not self._is_at(self._inherited.revision):
            self._inherited = NOTHING  # a worker was never told of it: it failed in another one
        if self._failures_of == self._wanted.revision:  # else they are of an older one
            for key, why in self._failures.items():
                self._refuse(*_version_of(key), why)
            self._recover()
        if self._is_at(self._wanted.revision):
            self._served = self._proven()
        self._changed.notify_all()

    def _proven(self) -> Wanted:
        """What all workers have applied; of a model that some cannot answer by it, what was before."""
        routes, paths, last = {}, {}, self._served or self._inherited
        for name in self._wanted.table.models:
            source = self._wanted if self._is_whole(name) else last
            if name in source.table.models:
                routes[name], paths[name] = source.table.models[name], source.paths[name]
        return Wanted(self._wanted.revision, RoutingTable(routes, self._wanted.table.default_model), paths)

    def _is_whole(self, name: str) -> bool:
        """Whether no worker has failed to load a version that an alias of the model answers by."""
        numbers = self._wanted.table.models[name].aliases.values()
        return all(self._shelf.unfit(name, number) is None and (name, number) not in self._again for number in numbers)

    def _note_serving(self) -> None:
        with self._changed:
            if not self._is_at(self._wanted.revision):
                return
            tables = {name: routes for name, routes in self._wanted.table.models.items() if self._is_whole(name)}
            torn = self._wanted.table.models.keys() - tables.keys()
        names = self._control.state().models.keys() - torn  # of the torn ones nothing can be said
        self._note({name: tables[name].aliases if name in tables else {} for name in sorted(names)})

    def _note(self, serving: Mapping[str, Mapping[str, int]]) -> None:
        """Put into the history what is served here now, where that is new. Raises ControlError."""
        node, models = self._node.name, self._control.state().models
        for name, aliases in serving.items():
            before = models[name].serving.get(node, {})
            if before != aliases:
                self._control.note(name, Serving(node=node, before=before, after=dict(aliases)), PENSTOCK)

    def _aim(self, revision: int, names: Collection[str]) -> int | None:
        """The `routing.json` that brings the state of `revision`; None while it is not written. The lock is held."""
        is_awaited = any(self._awaited.get(name) for name in names)
        return self._wanted.revision if self._decided >= revision and not is_awaited else None

    def _lagging(self, revision: int, aim: int | None, names: Collection[str]) -> list[str]:
        if self._said:
            return [f"the controller, which cannot follow the state: {self._said}"]
        if self._decided < revision:
            return ["the controller, which has yet to read the state"]
        if aim is None:
            return [why for name in sorted(names) for why in self._awaited.get(name, [])]
        lagging = [f"worker {number}" for number, at in sorted(self._revisions.items()) if at < aim]
        return lagging or ["the workers, of which none answers yet"]


def _answering(served: Wanted, model: ModelState) -> dict[int, str]:
    """Where the versions lie that aliases of a model answer by, those that the state still means by these numbers."""
    routes = served.table.models.get(model.name)
    if routes is None:
        return {}
    return {
        number: served.paths[model.name][number]
        for number in routes.aliases.values()
        if number in model.present and model.versions[number].published.digest == routes.versions[number]
    }


def _version_of(key: str) -> tuple[str, int]:
    name, _, number = key.rpartition("/")
    return name, int(number)


def _is_of(change: object, node: str) -> bool:
    return isinstance(change, Serving) and change.node == node
