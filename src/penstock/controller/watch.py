"""What is taken up by itself: bundles and founding folders of the watched directory, and the watched declared state."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from penstock.bundle.digest import sha256
from penstock.control.answers import ApplyAnswer
from penstock.control.control import By
from penstock.controller.arrivals import WATCH, Importing, Publishing, refuse_founding
from penstock.controller.assemble import Plane
from penstock.controller.backup import WATCHED_FILE
from penstock.controller.seen import Seen
from penstock.controller.watched import Shape, Watched, shape_of
from penstock.errors import ControlError, MoveRefused, PenstockError
from penstock.settings import Settings

_LOG = logging.getLogger("penstock")
_CONFIG: Final = "watch.config"


class Applying(Protocol):
    """What applies a declared state."""

    def apply(self, declared: str, by: By, *, is_dry: bool = False) -> ApplyAnswer:
        """Make the state what `declared` says."""
        ...


def watchers(settings: Settings, plane: Plane) -> list[Callable[[], None]]:
    """What looks, each for ever and in a thread of its own: an import that takes long holds up no bundle."""
    home, watch = Path(settings.home), settings.watch
    seen = Seen(home / WATCHED_FILE)
    looks: list[Callable[[], None]] = []
    if watch.directory is not None:
        root = Path(watch.directory)
        publishing = Publishing(plane.control, plane.convergence.wake)
        importing = Importing(publishing, seen, home).take if watch.allow_unsafe else refuse_founding
        looks += [Watched(root, publishing.take).look, Watched(root, importing, is_quiet=True).look]
    if watch.config is not None:
        looks.append(WatchedConfig(Path(watch.config), plane.operations, seen).look)
    return [_again_and_again(look, watch.interval_s) for look in looks]


class WatchedConfig:
    """Applies a declared state when its file has changed, also while nobody was looking. One thread's."""

    def __init__(self, path: Path, operations: Applying, seen: Seen) -> None:
        self._path = path
        self._operations = operations
        self._seen = seen
        self._before: Shape = ()
        self._done: Shape = ()
        self._told = ""

    def look(self) -> None:
        """Apply the file, if it is new and at rest. What is wrong is told once, and it is then left until it changes.

        What may come by itself (a version that it names, the database) is waited for.
        """
        shape = shape_of(self._path)
        is_new = bool(shape) and shape == self._before and shape != self._done
        self._before = shape
        if not shape:
            self._tell("there is no such file")
        if is_new and self._is_done():
            self._done = shape

    def _is_done(self) -> bool:
        try:
            data = self._path.read_bytes()
            if not self._seen.has(_CONFIG, sha256(data)):
                self._apply(data.decode())
                self._seen.note(_CONFIG, sha256(data))
        except (PenstockError, OSError, UnicodeDecodeError) as error:
            self._tell(str(error))
            return not _may_pass(error)
        self._told = ""
        return True

    def _apply(self, text: str) -> None:
        answer = self._operations.apply(text, By(who=WATCH, reason=f"{self._path.name} was changed"))
        for difference in answer.differences:
            _LOG.info("watched: %s: %s: %s", self._path.name, difference.model, difference.what)
        if not answer.is_applied:
            _LOG.warning("watched: %s waits for %s", self._path.name, ", ".join(answer.waits_for))

    def _tell(self, why: str) -> None:
        if self._told != why:
            self._told = why
            _LOG.warning("watched: %s is not applied: %s", self._path, why)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, OSError) or (isinstance(error, ControlError) and not isinstance(error, MoveRefused))


def _again_and_again(look: Callable[[], None], every_s: float) -> Callable[[], None]:
    def watch() -> None:
        while True:
            try:
                look()
            except Exception:  # the edge of a thread: what is watched must not end with one surprise
                _LOG.exception("watched: this look failed; the next one is in %g s", every_s)
            time.sleep(every_s)

    return watch
