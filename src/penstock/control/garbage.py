"""Which versions are garbage, by rule: pure. A version that anything refers to never is."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from penstock.control.state import ModelState, State
from penstock.control.wanted import wanted_versions


class KeepRule(msgspec.Struct, frozen=True, kw_only=True):
    """What stays although nothing refers to it: the `last` published versions of a model, and those younger than `days`.

    `loaded` of the former champions stay in memory, so their bundles stay, too.
    """

    last: int
    days: float
    loaded: int = 1


def referred(model: ModelState, loaded: int) -> set[int]:
    """The versions that something refers to: an alias, a rollback, a fallback, what is or ought to be in memory."""
    fallback = model.config.options.fallback
    found = {*model.aliases.values(), *model.champions[-2:], *wanted_versions(model, loaded)}
    found.update(number for aliases in model.serving.values() for number in aliases.values())
    if fallback is not None and fallback.version is not None:
        found.add(fallback.version)
    return found


def removable(state: State, now: datetime, rule: KeepRule) -> dict[str, list[int]]:
    """The versions of each model that may go, oldest first; models without any are left out."""
    oldest = now - timedelta(days=rule.days)
    found = {}
    for name, model in sorted(state.models.items()):
        present = sorted(model.present)
        stays = referred(model, rule.loaded) | set(present[len(present) - min(rule.last, len(present)) :])
        old = [number for number in present if number not in stays and model.versions[number].at < oldest]
        if old:
            found[name] = old
    return found


def seals_of(state: State, without: dict[str, list[int]]) -> set[str]:
    """The seals of all versions that are there, but those of `without`."""
    return {
        model.versions[number].published.seal
        for name, model in state.models.items()
        for number in model.present
        if number not in without.get(name, ())
    }
