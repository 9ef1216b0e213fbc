"""Erasing by law as an operator asks for it: the log, what feedback says of its calls, and the exports that hold them.

The order is that in which a crash leaves what is needed to go on: exports, feedback, then the calls themselves, whose
keys may go with them; at last the event in the history. Asked again, it does the rest.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.erase import Erasures, Wanted, erase
from penstock.audit.extra import require_audit
from penstock.audit.meant import Meant, meant_by
from penstock.audit.pseudonyms import open_pseudonyms
from penstock.audit.sealed import SEALED
from penstock.audit.segment import held
from penstock.control.answers import EraseAnswer, ExportAnswer
from penstock.control.changes import Erased, Event, Exported
from penstock.control.control import By, Control
from penstock.controller.sealing import Sealing
from penstock.errors import ControlError, MissingExtra

_SEALED: Final = "penstock.audit.erase_sealed"  # with pyarrow, as the next one
_EXPORTS: Final = "penstock.audit.erase_exports"
_TURN_S: Final = 10.0
_LOOK_S: Final = 0.02
Step = Callable[[str], None]


class Erasing:
    """Erases from the log of `home`, which is that of the machine `node`. Thread-safe: one at a time.

    `turn` has the workers begin new segments, and says whether there are any to hear it. `step` is told of each thing
    before it is done.
    """

    def __init__(
        self,
        home: Path,
        control: Control,
        sealing: Sealing,
        *,
        node: str,
        turn: Callable[[], bool] = lambda: False,
        step: Step = lambda what: None,
    ) -> None:
        self._directory = home / "audit"
        self._control = control
        self._sealing = sealing
        self._node = node
        self._turn = turn
        self._step = step

    def erase(self, wanted: Wanted, by: By) -> EraseAnswer:
        """Take the payloads of the records that `wanted` takes out of all segments, sealed files and exports that can
        be reached, and say in the history why. Raises MissingExtra, SegmentError, StateUnavailable and ControlError.
        """
        events = self._control.events()  # where the state is away nothing goes
        if not self._directory.is_dir():
            return EraseAnswer(records=0)
        with self._sealing.paused():
            try:
                answer, meant = self._erased(wanted, events)
            except OSError as error:
                raise ControlError(f"the records cannot be erased: {error.strerror or error}; ask again") from error
        if meant.ids or answer.exports:
            self._step("tell")
            self._control.note_log("", _event(answer, meant, self._node), by)
        return answer

    def _erased(self, wanted: Wanted, events: Sequence[Event]) -> tuple[EraseAnswer, Meant]:
        if (self._directory / SEALED).is_dir():
            self._sealing.tidy()  # a crash of erasing may have left the file as it was
        pseudonyms = open_pseudonyms(self._directory.parent)
        meant = meant_by(self._directory, wanted.with_pseudonyms(pseudonyms))
        erasures = Erasures(self._directory, pseudonyms)
        everything = msgspec.structs.replace(
            wanted.with_pseudonyms(pseudonyms), request_ids=wanted.request_ids | meant.ids
        )
        exports = list(self._exports(events, everything, meant, erasures))
        of_keys = meant.ids - wanted.request_ids
        records, busy = self._log(Wanted(calls=of_keys)) if of_keys else (0, [])
        if not busy:
            others, busy = self._log(wanted)
            records += others
        return EraseAnswer(records=records, busy=busy, exports=exports), meant

    def _log(self, wanted: Wanted) -> tuple[int, list[str]]:
        """How many payloads went, and which segments have more and are being written."""
        pseudonyms = open_pseudonyms(self._directory.parent)
        done = erase(self._directory, wanted, pseudonyms, step=self._step)
        records = done.records
        if done.busy and self._turn():
            _wait_for(done.busy)
            done = erase(self._directory, wanted, pseudonyms, step=self._step)
            records += done.records
        if (self._directory / SEALED).is_dir():
            require_audit("erasing what is sealed")
            sealed = importlib.import_module(_SEALED)
            records += sealed.erase_sealed(self._directory, wanted, pseudonyms, step=self._step)
        return records, [f"{path.parent.name}/{path.name}" for path in done.busy]

    def _exports(
        self, events: Sequence[Event], wanted: Wanted, meant: Meant, erasures: Erasures
    ) -> Iterator[ExportAnswer]:
        """What became of each export that holds such records, or may."""
        for event in events:
            if not isinstance(event.change, Exported) or not _may_hold(event, event.change, meant):
                continue
            lines, by_hand = self._export(event.change, wanted, erasures)
            if lines or by_hand is not None:
                yield ExportAnswer(
                    path=event.change.path,
                    node=event.change.node,
                    at=event.at,
                    who=event.who.name,
                    lines=lines,
                    by_hand=by_hand,
                )

    def _export(self, change: Exported, wanted: Wanted, erasures: Erasures) -> tuple[int, str | None]:
        if change.node != self._node:
            return 0, f"it was written on {change.node}"
        try:
            require_audit("erasing from exports")
        except MissingExtra as error:
            return 0, str(error)
        module = importlib.import_module(_EXPORTS)
        try:
            return module.erase_export(Path(change.path), change.sha256, wanted, erasures, step=self._step), None
        except module.LeftToHand as why:
            return 0, str(why)


def _may_hold(event: Event, change: Exported, meant: Meant) -> bool:
    """Whether an export can have one of the calls; where none is in the log any more nothing is known of them."""
    if meant.first_at is None or meant.last_at is None:
        return True
    return (
        (not event.model or event.model in meant.models)
        and (change.since is None or change.since <= meant.last_at)
        and meant.first_at < (change.until or event.at)
    )


def _event(answer: EraseAnswer, meant: Meant, node: str) -> Erased:
    return Erased(
        node=node,
        records=answer.records,
        models=tuple(sorted(meant.models - {""})),
        exports=tuple(one.path for one in answer.exports if one.by_hand is None),
        by_hand=tuple(f"{one.path} on {one.node}" for one in answer.exports if one.by_hand is not None),
    )


def _wait_for(segments: Sequence[Path]) -> None:
    """Until nobody writes these any more, or for a while."""
    until_s = time.monotonic() + _TURN_S
    while any(map(_is_written, segments)) and time.monotonic() < until_s:
        time.sleep(_LOOK_S)


def _is_written(segment: Path) -> bool:
    with held(segment) as file:
        return file is None
