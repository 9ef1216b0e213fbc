"""Exports of the log, registered in the history: erasing has to know of every copy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from penstock.audit.conditions import Conditions
from penstock.audit.segment import digest_of
from penstock.control.changes import Exported
from penstock.control.control import By
from penstock.controller.assemble import control_plane, node_of
from penstock.settings import Settings


class Exporting:
    """One export to `path`: `lines` are told by whoever writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0


@contextlib.contextmanager
def registered(settings: Settings, path: Path, conditions: Conditions, by: By) -> Iterator[Exporting]:
    """The block writes `path`; at its end that is noted in the history, beside a controller that may run.

    No copy is left that nobody knows of: what cannot be noted is removed again. Raises StateUnavailable.
    """
    made = Exporting(path.absolute())
    if made.path.exists():  # which is refused by the block, and not ours to remove
        yield made
        return
    try:
        yield made
        change = Exported(
            node=node_of(settings),
            path=str(made.path),
            lines=made.lines,
            sha256=digest_of(made.path),
            conditions=in_words(conditions),
            since=conditions.since,
            until=conditions.until,
        )
        with control_plane(settings) as plane:
            plane.control.note_log(conditions.model or "", change, by)
    except BaseException:
        made.path.unlink(missing_ok=True)
        raise


def in_words(conditions: Conditions) -> str:
    """Which records: without keys and values, which could be about persons, and no event is ever erased."""
    said = [
        f"{name} {value}"
        for name, value in (
            ("model", conditions.model),
            ("version", conditions.version),
            ("since", conditions.since and conditions.since.isoformat()),
            ("until", conditions.until and conditions.until.isoformat()),
            ("outcome", conditions.outcome),
        )
        if value is not None
    ]
    said += ["of one principal"] * (conditions.principal is not None) + ["of one key"] * (conditions.key is not None)
    said += [f"by {name}" for name, _ in conditions.where]
    return ", ".join(said)
