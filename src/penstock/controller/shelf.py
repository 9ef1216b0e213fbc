"""The versions that this machine can serve: fetched and tried, and where they lie; and why others cannot be served."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from penstock.control.gate import Bundles
from penstock.control.state import ModelState
from penstock.errors import ControlError, PenstockError
from penstock.routing import Wanted

_LOG = logging.getLogger("penstock")
_AGAIN_S: Final = 5.0
_AT_ONCE: Final = 2  # fetched or tried: a trial takes a core

Key = tuple[str, int]


class Tries(Protocol):
    """Whether a version loads on this machine."""

    def tried(self, model: ModelState, number: int) -> str | None:
        """Why it does not; None if it does. Raises ControlError when that could not be found out."""
        ...


class Unfit(msgspec.Struct, frozen=True):
    """A version that cannot be served here, why, and the revision of the state at which that was found."""

    since: int
    why: str


class Found(msgspec.Struct, frozen=True):
    """A version that can be served here: its content digest, and where its bundle lies."""

    digest: str
    path: str


class _Waiting(msgspec.Struct, frozen=True):
    """A version that is not there yet, for a reason that may pass; looked for again at `again_s` of the clock."""

    again_s: float
    why: str


class Shelf:
    """What `path` asks for is fetched and tried once, in a thread of its own. Thread-safe.

    A reason that lies in the version (`unfit`) stands until it is forgiven; one that may pass (the repository or the
    database cannot be reached, the disk is full) is told by `awaited`, and the version is looked for again.
    """

    def __init__(self, bundles: Bundles, tries: Tries) -> None:
        self._bundles = bundles
        self._tries = tries
        self.on_change: Callable[[], None] | None = None
        """Hears, in that thread, that a version is there or was found unfit; None: `path` itself fetches and tries, and
        returns when it has.
        """
        self._found: dict[Key, Found] = {}
        self._unfit: dict[Key, Unfit] = {}
        self._waiting: dict[Key, _Waiting] = {}
        self._under_way: set[Key] = set()
        self._turns = threading.Semaphore(_AT_ONCE)
        self._lock = threading.Lock()

    def stock(self, wanted: Wanted) -> None:
        """Take over what `routing.json` names: it was tried when it was written."""
        with self._lock:
            for name, paths in wanted.paths.items():
                digests = wanted.table.models[name].versions
                self._found |= {(name, number): Found(digests[number], path) for number, path in paths.items()}

    def path(self, model: ModelState, number: int, revision: int) -> str | None:
        """Where a version lies, to be served as the state of `revision` says; None: not there yet, or unfit."""
        key, digest = (model.name, number), model.version(number).published.digest
        with self._lock:
            found = self._found.get(key)
            if found is not None and found.digest != digest:  # of another state, in which the number was another's
                del self._found[key]
                found = None
            is_there = found is not None and Path(found.path).is_dir()
            is_to_start = not is_there and key not in self._unfit and self._is_due(key)
            if is_to_start:
                self._under_way.add(key)
        if is_to_start:
            self._start(model, number, revision)
        with self._lock:
            # One that was served and whose files are gone is fetched again; what is in memory is served on meanwhile.
            found = self._found.get(key)
            return None if found is None else found.path

    def where(self, name: str, number: int) -> str | None:
        """Where a version lies that is there; None where it is not."""
        with self._lock:
            found = self._found.get((name, number))
            return None if found is None else found.path

    def has(self, name: str, number: int) -> bool:
        """Whether a version is there."""
        with self._lock:
            return (name, number) in self._found

    def unfit(self, name: str, number: int) -> Unfit | None:
        """Why a version cannot be served here; None if nothing speaks against it."""
        with self._lock:
            return self._unfit.get((name, number))

    def awaited(self, name: str, number: int) -> str:
        """Why a version that is neither there nor unfit is not there yet."""
        with self._lock:
            waiting = self._waiting.get((name, number))
        what = f"version {number} of {name!r}"
        return f"{what} is being fetched and tried" if waiting is None else f"{what} waits: {waiting.why}"

    def refuse(self, name: str, number: int, unfit: Unfit) -> bool:
        """A version turned out unfit where it was to be served; False if that was known."""
        with self._lock:
            if (name, number) in self._unfit:
                return False
            self._unfit[name, number] = unfit
            self._found.pop((name, number), None)
            return True

    def accept(self, name: str, number: int, found: Found) -> None:
        """A version that was found unfit is served after all."""
        with self._lock:
            self._unfit.pop((name, number), None)
            self._found[name, number] = found

    def forgive(self, name: str, number: int, moved_at: int) -> bool:
        """An alias was moved at a revision: whether the version was found unfit before it, and is tried again."""
        with self._lock:
            unfit = self._unfit.get((name, number))
            if unfit is None or unfit.since >= moved_at:
                return False
            del self._unfit[name, number]
            return True

    def _is_due(self, key: Key) -> bool:
        waiting = self._waiting.get(key)
        return key not in self._under_way and (waiting is None or waiting.again_s <= time.monotonic())

    def _start(self, model: ModelState, number: int, revision: int) -> None:
        if self.on_change is None:
            self._prepare(model, number, revision)
            return
        threading.Thread(
            target=self._prepare, args=(model, number, revision), daemon=True, name=f"try {model.name} {number}"
        ).start()

    def _prepare(self, model: ModelState, number: int, revision: int) -> None:
        key, published = (model.name, number), model.version(number).published
        found: Found | Unfit | _Waiting
        try:
            with self._turns:
                found = self._tried(model, number, revision)
        except (ControlError, OSError) as error:
            found = _Waiting(time.monotonic() + _AGAIN_S, str(error))
        except PenstockError as error:  # of the bundle: it was changed since it was tried
            found = Unfit(revision, f"version {number} cannot be served here: {error}")
        except Exception as error:  # the edge of a thread: a bug of ours must not leave the version under way for ever
            _LOG.exception("%s: version %d could not be tried", model.name, number)
            found = _Waiting(time.monotonic() + 12 * _AGAIN_S, f"{type(error).__name__}: {error}")
        self._put(key, published.digest, found)
        if self.on_change is not None:
            self.on_change()

    def _tried(self, model: ModelState, number: int, revision: int) -> Found | Unfit:
        why = self._tries.tried(model, number)
        if why is not None:
            return Unfit(revision, why)
        published = model.version(number).published
        return Found(published.digest, str(self._bundles.local(published.seal).absolute()))

    def _put(self, key: Key, digest: str, found: Found | Unfit | _Waiting) -> None:
        with self._lock:
            self._under_way.discard(key)
            self._waiting.pop(key, None)
            match found:
                case Found():
                    self._found[key] = found
                    self._unfit.pop(key, None)
                case Unfit():
                    _LOG.error("%s: %s", key[0], found.why)
                    self._unfit[key] = found
                    self._found.pop(key, None)
                case _Waiting():
                    _LOG.error("%s: version %d is not there yet: %s; again in a while", *key, found.why)
                    self._waiting[key] = found
