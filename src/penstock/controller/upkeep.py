"""The upkeep of a home: garbage collection, sealing, and a backup while everything runs."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from penstock.audit.erase import Wanted
from penstock.control.answers import EraseAnswer, GarbageAnswer, SealAnswer
from penstock.control.control import By, Control
from penstock.control.garbage import KeepRule, removable, seals_of
from penstock.control.repository import Repository
from penstock.control.store import EventStore
from penstock.controller.backup import back_up
from penstock.controller.erasing import Erasing
from penstock.controller.sealing import Sealing
from penstock.errors import ControlError, InUse, Unknown
from penstock.routing import read_wanted


class Upkeep:
    """What is done now and then to the state and the repository of `home`. Thread-safe."""

    def __init__(
        self,
        control: Control,
        store: EventStore,
        repository: Repository,
        *,
        home: Path,
        rule: KeepRule,
        sealing: Sealing,
        erasing: Erasing,
    ) -> None:
        self._control = control
        self._store = store
        self._repository = repository
        self._home = home
        self._rule = rule
        self._sealing = sealing
        self._erasing = erasing

    def collect(self, by: By, *, is_dry: bool = False) -> GarbageAnswer:
        """Remove versions by rule, then the files that no version needs; with `is_dry` only name them.

        Raises StateUnavailable, RepositoryUnavailable, and BundleRefused where it is not known what a version needs.
        """
        state = self._control.state()
        versions = removable(state, datetime.now(UTC), self._rule)
        if not is_dry:
            versions = self._removed(versions, msgspec.structs.replace(by, if_revision=None, is_forced=False))
            state = self._control.state()
        routed = read_wanted(self._home).paths.values()  # what workers start from, whatever the state says by now
        in_use = {Path(path).name for paths in routed for path in paths.values()}
        leftovers = self._repository.leftovers(seals_of(state, without=versions), in_use)
        if not is_dry:
            self._repository.discard(leftovers)
        return GarbageAnswer(
            versions=versions,
            files=[leftover.name for leftover in leftovers],
            freed_bytes=sum(leftover.size_bytes for leftover in leftovers),
            is_dry=is_dry,
        )

    def seal(self) -> SealAnswer:
        """Seal the log now, and remove what retention lets go. Raises MissingExtra, SegmentError and ControlError."""
        return self._sealing.seal()

    def erase(self, wanted: Wanted, by: By) -> EraseAnswer:
        """Erase payloads from the log and from exports. Raises MissingExtra, SegmentError and ControlError."""
        if not (by.reason or "").strip():
            raise ControlError("say why: erasing needs a reason, which stands in the history for good")
        return self._erasing.erase(wanted, by)

    def back_up(self, directory: Path) -> None:
        """Write a copy of the home to a new directory; see `backup.py`."""
        with self._sealing.paused():
            back_up(directory, self._home, self._store, self._repository)

    def _removed(self, versions: dict[str, list[int]], by: By) -> dict[str, list[int]]:
        """Those of `versions` that are removed now: one that somebody refers to since it was found stays."""
        removed: dict[str, list[int]] = {}
        for name, numbers in versions.items():
            for number in numbers:
                try:
                    self._control.remove(name, number, by)
                except (InUse, Unknown):
                    continue
                removed.setdefault(name, []).append(number)
        return removed
