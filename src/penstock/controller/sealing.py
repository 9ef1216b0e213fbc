"""Seals the log of a home and keeps its retention: now and then in the controller, once for `penstock audit seal`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from penstock.audit.extra import require_audit
from penstock.audit.retention import Bounds, Due, Retention, retain
from penstock.audit.sealed import SealedFile, read_index
from penstock.control.answers import RemovedFile, SealAnswer
from penstock.errors import ControlError, MissingExtra, PenstockError
from penstock.settings import AuditSettings

if TYPE_CHECKING:
    from penstock.audit.seal import Sealer

_LOG = logging.getLogger("penstock")
_EVERY_S: Final = 30.0
_QUIET_S: Final = 60.0
_NICE: Final = 10
_SEALER: Final = ("penstock.audit.seal", "Sealer")  # with pyarrow, which only sealing itself loads


class Sealing:
    """Sealing and retention of one home by the process that holds its lock. Thread-safe: one pass at a time.

    `is_passed` says of a segment whether its readers have done with it. `on_gone` gets the files of the index once some
    are gone of which the history may not say so yet.
    """

    def __init__(
        self,
        home: Path,
        settings: AuditSettings,
        is_passed: Callable[[str], bool] = lambda segment: True,
        on_gone: Callable[[list[SealedFile]], object] = lambda files: None,
    ) -> None:
        self._directory = home / "audit"
        self._settings = settings
        self._is_passed = is_passed
        self._on_gone = on_gone
        self._is_untold = True
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._told: set[str] = set()

    def seal(self, *, quiet_s: float = 0.0) -> SealAnswer:
        """Seal every segment that is closed and was not written for `quiet_s`, and remove what retention lets go.

        Raises MissingExtra, SegmentError, and ControlError where files cannot be written.
        """
        require_audit("sealing the audit log")
        with self._lock:
            try:
                sealed = self._sealer().seal(quiet_s=quiet_s)
                removed = retain(self._directory, rule_of(self._settings))
                self._tell_retained(removed)
            except OSError as error:
                raise ControlError(
                    f"the log cannot be sealed: {error.strerror or error}. Make room, or mend the rights"
                ) from error
        return SealAnswer(
            segments=len(sealed.entries),
            records=sealed.records,
            files=sum(len(entry.files) for entry in sealed.entries),
            torn_bytes=sum(entry.torn_bytes for entry in sealed.entries),
            removed=[RemovedFile(path=one.file.path, records=one.file.records, why=one.why) for one in removed],
            problems=sealed.problems,
        )

    def tidy(self) -> None:
        """Take away what a crash left of sealed files, while `paused`. Raises MissingExtra, SegmentError, OSError."""
        require_audit("erasing what is sealed")
        self._sealer().tidy()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is sealed or removed meanwhile: for whoever copies the log."""
        with self._lock:
            yield

    def run(self) -> None:
        """Seal now and then until `stop`, in a thread of its own that gives way to others."""
        if sys.platform == "linux":  # there a thread has a priority of its own
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        age_s = self._settings.seal_after_s
        while not self._ending.wait(min(_EVERY_S, age_s)):
            try:
                self._tell(self.seal(quiet_s=min(_QUIET_S, age_s)))
            except MissingExtra as error:
                self._tell_once(logging.WARNING, f"segments stay as they are: {error}")
            except PenstockError as error:
                self._tell_once(logging.ERROR, str(error))
            except Exception as error:  # the edge of a thread that must go on
                self._tell_once(logging.ERROR, f"sealing failed: {error!r}")

    def stop(self) -> None:
        """Begin no other pass."""
        self._ending.set()

    def _sealer(self) -> Sealer:
        module, attribute = _SEALER
        sealer: type[Sealer] = getattr(importlib.import_module(module), attribute)
        return sealer(self._directory, is_passed=self._is_passed)

    def _tell_retained(self, removed: list[Due]) -> None:
        """Have the history say what is gone; at first also what a process removed that had no time to tell."""
        if not (removed or self._is_untold):
            return
        self._is_untold = True
        try:
            self._on_gone([file for entry in read_index(self._directory) for file in entry.files])
        except ControlError as error:
            self._tell_once(logging.WARNING, f"the history does not say yet what retention removed: {error}")
            return
        self._is_untold = False

    def _tell(self, answer: SealAnswer) -> None:
        if answer.segments:
            _LOG.info("audit: sealed %d records of %d segments", answer.records, answer.segments)
        for removed in answer.removed:
            _LOG.info("audit: removed %s with %d records: %s", removed.path, removed.records, removed.why)
        for problem in answer.problems:
            self._tell_once(logging.ERROR, problem)

    def _tell_once(self, level: int, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            _LOG.log(level, "audit: %s", what)


def rule_of(settings: AuditSettings) -> Retention:
    """What the settings say of how long sealed records are kept."""
    everyone = Bounds(days=settings.retention_days, max_bytes=settings.retention_bytes)
    models = {
        name: Bounds(
            days=everyone.days if own.days is None else own.days,
            max_bytes=everyone.max_bytes if own.bytes is None else own.bytes,
        )
        for name, own in settings.retention.items()
    }
    return Retention(bounds=everyone, models=models, hold=frozenset(settings.hold))
