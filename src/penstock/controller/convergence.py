"""Makes this machine serve what the state says: bundles are fetched and tried, `routing.json` is replaced, the workers
are told, and what they really serve is noted.

A version that cannot be served here is left out, and what was served before stays. That is tried again when somebody
moves an alias of the model, or the controller starts again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from penstock.control.changes import Event, Moved, Serving, Tried, Who
from penstock.control.control import Control
from penstock.control.gate import Bundles
from penstock.control.state import ModelState, State
from penstock.control.wanted import wanted_of, wanted_versions
from penstock.errors import ControlError, PenstockError
from penstock.routing import Wanted, read_wanted, write_wanted

_LOG = logging.getLogger("penstock")
_POLL_S = 1.0
_AGAIN_S = 5.0
PENSTOCK = Who("penstock", is_verified=True)


class Tries(Protocol):
    """Whether a version loads on this machine."""

    def tried(self, model: ModelState, number: int) -> str | None:
        """Why it does not; None if it does."""
        ...


class Convergence:
    """One machine's way to the wanted state. `run` in a thread of its own; everything else from any thread.

    `tell` hears the revision of each `routing.json` that was written; None where no server runs.
    """

    def __init__(
        self,
        control: Control,
        bundles: Bundles,
        tries: Tries,
        *,
        home: Path,
        node: str,
        default_model: str | None = None,
        kept: int = 1,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        self._control = control
        self._bundles = bundles
        self._tries = tries
        self._home = home
        self._node = node
        self._default_model = default_model
        self._kept = kept
        self._tell = tell
        self._wanted = read_wanted(home)
        self._decided = 0  # the revision of the state that `_wanted` is made of
        self._covered = 0  # the revision that all workers serve
        self._revisions: dict[int, int] = {}  # of the workers
        self._unfit: dict[tuple[str, int], tuple[int, str]] = {}  # since which move, and why
        self._is_over = self._is_woken = False
        self._changed = threading.Condition()

    def run(self) -> None:
        """Converge until `stop`; the database may come and go."""
        while not self._is_over:
            wait_s = _POLL_S
            try:
                self.decide()
                self.note_serving()
            except ControlError as error:  # what is served goes on
                _LOG.error("the wanted state cannot be read: %s; again in %.0f s", error, _AGAIN_S)
                wait_s = _AGAIN_S
            with self._changed:
                self._changed.wait_for(lambda: self._is_woken, wait_s)
                self._is_woken = False

    def wake(self) -> None:
        """The state has changed, or may have."""
        with self._changed:
            self._is_woken = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End `run`; note that nothing is served here any more."""
        self._is_over = True
        self.wake()
        try:
            self._note({}, self._control.state())
        except PenstockError as error:
            _LOG.warning("that this machine stops is not in the history: %s", error)

    def decide(self) -> Wanted:
        """Write `routing.json` anew if the state asks for it. Raises ControlError."""
        state = self._control.state()
        paths = {name: self._paths(model) for name, model in state.models.items()}
        wanted = wanted_of(
            state, paths, before=self._wanted, default_model=self._default_model, kept=self._kept, node=self._node
        )
        is_new = (wanted.table, wanted.paths) != (self._wanted.table, self._wanted.paths)
        if is_new:
            write_wanted(self._home, wanted)
            self._wanted = wanted
            if self._tell is not None:
                self._tell(wanted.revision)
        with self._changed:
            self._decided = state.revision
        self._look()
        return self._wanted

    def stands(self, revisions: Mapping[int, int], failures: Mapping[str, str]) -> None:
        """The supervisor tells which revision each worker serves, and by `name/version` what could not be loaded."""
        for key, why in failures.items():
            name, _, number = key.rpartition("/")
            self._refuse(name, int(number), why)
        with self._changed:
            self._revisions = dict(revisions)
        self._look()
        self.wake()

    def wait(self, revision: int, within_s: float) -> list[str]:
        """Wait until all workers serve the state of `revision`: those that do not; empty when all do."""
        if self._tell is None:
            return ["no server runs here"]
        until_s = time.monotonic() + within_s
        self.wake()
        with self._changed:
            while self._covered < revision and (left_s := until_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            if self._covered >= revision:
                return []
            lagging = [f"worker {number}" for number, at in self._revisions.items() if at < self._wanted.revision]
            return lagging or ["the controller, which has yet to fetch and try what is wanted"]

    def unfit(self, name: str, number: int) -> str | None:
        """Why a version that is wanted is not served here; None if nothing speaks against it."""
        found = self._unfit.get((name, number))
        return None if found is None else found[1]

    def note_serving(self) -> None:
        """Put into the history what all workers serve now, where that is new. Raises StateUnavailable."""
        with self._changed:
            is_settled, table = self._is_settled(), self._wanted.table
        if is_settled:
            self._note({name: routes.aliases for name, routes in table.models.items()}, self._control.state())

    def _note(self, serving: Mapping[str, Mapping[str, int]], state: State) -> None:
        for name, model in state.models.items():
            before, now = model.serving.get(self._node, {}), dict(serving.get(name, {}))
            if before != now:
                self._control.note(name, Serving(node=self._node, before=before, after=now), PENSTOCK)

    def _paths(self, model: ModelState) -> dict[int, str]:
        """Where the wanted versions of a model lie, those that can be served here."""
        moved_at = last_move(self._control.events(), model.name)
        found = {}
        for number in wanted_versions(model, self._kept, self._wanted, self._node):
            since, _ = self._unfit.get((model.name, number), (0, ""))
            if since and since >= moved_at:
                continue
            self._unfit.pop((model.name, number), None)
            why = self._tries.tried(model, number)
            if why is None:
                found[number] = str(self._bundles.local(model.version(number).published.seal))
            else:
                _LOG.error("%s: %s", model.name, why)
                self._unfit[model.name, number] = (moved_at, why)
        return found

    def _refuse(self, name: str, number: int, why: str) -> None:
        if (name, number) in self._unfit:
            return
        _LOG.error("%s: version %d cannot be served here: %s", name, number, why)
        try:
            moved_at = last_move(self._control.events(), name)
            self._control.note(name, Tried(version=number, node=self._node, why=why), PENSTOCK)
        except ControlError as error:
            _LOG.error("that is not in the history: %s", error)
            moved_at = self._decided
        self._unfit[name, number] = (moved_at, f"version {number} cannot be served here: {why}")

    def _look(self) -> None:
        with self._changed:
            if self._is_settled() and self._covered < self._decided:
                self._covered = self._decided
                self._changed.notify_all()

    def _is_settled(self) -> bool:
        """Whether all workers serve what is wanted; not before there are any."""
        return bool(self._revisions) and min(self._revisions.values()) >= self._wanted.revision


def last_move(events: list[Event], name: str) -> int:
    """The revision at which an alias of the model was moved last; 0 before."""
    moves = (event.revision for event in reversed(events) if event.model == name and isinstance(event.change, Moved))
    return next(moves, 0)
