"""Which versions are garbage, by rule: pure. A version that anything refers to never is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from penstock.control.decisions import uses_of
from penstock.control.state import ModelState, State
from penstock.control.wanted import wanted_versions


class KeepRule(msgspec.Struct, frozen=True, kw_only=True):
    """What stays although nothing refers to it: the `last` published versions of a model, those younger than `days`,
    and the `loaded` former champions that machines keep in memory.
    """

    last: int
    days: float
    loaded: int = 1


def removable(state: State, now: datetime, rule: KeepRule) -> dict[str, list[int]]:
    """The versions of each model that may go, oldest first; models without any are left out."""
    oldest = now - timedelta(days=rule.days)
    found = {name: _removable(model, oldest, rule) for name, model in sorted(state.models.items())}
    return {name: numbers for name, numbers in found.items() if numbers}


def seals_of(state: State, without: Mapping[str, Sequence[int]]) -> set[str]:
    """The seals of all versions that are there, but those of `without`."""
    return {
        model.versions[number].published.seal
        for name, model in state.models.items()
        for number in model.present
        if number not in without.get(name, ())
    }


def _removable(model: ModelState, oldest: datetime, rule: KeepRule) -> list[int]:
    present = sorted(model.present)
    stays = {*present[max(0, len(present) - rule.last) :], *wanted_versions(model, rule.loaded)}
    return [
        number
        for number in present
        if number not in stays and model.versions[number].at < oldest and not any(uses_of(model, number))
    ]
