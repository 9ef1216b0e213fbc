"""What retention removed, into the history: an event for each model, also of what a killed process had removed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from penstock.audit.sealed import Gone, SealedFile
from penstock.control.changes import Event, Retained, Who
from penstock.control.control import By, Control

_PENSTOCK = By(who=Who("penstock", is_verified=True))


def tell_retained(control: Control, node: str, files: Iterable[SealedFile]) -> None:
    """Say of the `files` of the index of the machine `node` that are gone what no event says yet. Raises
    StateUnavailable.
    """
    for model, change in untold(control.events(), node, files):
        control.note_log(model, change, _PENSTOCK)


def untold(events: Iterable[Event], node: str, files: Iterable[SealedFile]) -> list[tuple[str, Retained]]:
    """The events that are wanting, each with its model's name, which is empty for what has none. Pure."""
    told = {
        event.model: event.change.upto
        for event in events
        if isinstance(event.change, Retained) and event.change.node == node
    }
    gone = [(file.model or "", file, file.gone) for file in files if file.gone is not None]
    fresh = [each for each in gone if each[0] not in told or each[2].at > told[each[0]]]
    fresh.sort(key=lambda each: each[0])
    groups = groupby(fresh, key=lambda each: each[0])
    return [(model, _retained(node, [(file, why) for _, file, why in group])) for model, group in groups]


def _retained(node: str, gone: list[tuple[SealedFile, Gone]]) -> Retained:
    return Retained(
        node=node,
        files=len(gone),
        records=sum(file.records for file, _ in gone),
        size_bytes=sum(file.size_bytes for file, _ in gone),
        first_day=min(file.day for file, _ in gone),
        last_day=max(file.day for file, _ in gone),
        rules=tuple(sorted({why.why for _, why in gone})),
        upto=max(why.at for _, why in gone),
    )
