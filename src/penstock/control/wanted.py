"""What a machine ought to serve, from the state: pure. The versions that an alias names, and those that were champion
last, which stay loaded so that a rollback is a change of the table alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control.state import ModelState, State
from penstock.routing import Routes, RoutingTable, Wanted


def wanted_versions(model: ModelState, kept: int) -> list[int]:
    """The numbers of the versions of a model that ought to be loaded: `kept` beside those that aliases name."""
    named = set(model.aliases.values())
    return sorted(named | set([number for number in model.recent if number not in named][:kept]))


def wanted_of(
    state: State,
    paths: Mapping[str, Mapping[int, str]],
    *,
    before: Wanted,
    default_model: str | None = None,
    kept: int = 1,
) -> Wanted:
    """What ought to be served on a machine where the bundles at `paths` are, loaded and proven.

    A version that is not among them is left out: an alias that names it goes on meaning what it did in `before`, which
    is what the machine serves now, as long as that is there; else the alias is left out.
    """
    routes, used = {}, {}
    for name, model in state.models.items():
        there = paths.get(name, {})
        last = before.table.models.get(name, Routes({}, {})).aliases
        aliases = {}
        for alias, number in model.aliases.items():
            meant = number if number in there else last.get(alias)
            if meant is not None and meant in there:
                aliases[alias] = meant
        versions = sorted({*aliases.values(), *(set(wanted_versions(model, kept)) & set(there))})
        if aliases:
            digests = {number: model.versions[number].published.digest for number in versions}
            routes[name] = Routes(digests, aliases, model.config.options)
            used[name] = {number: there[number] for number in versions}
    return Wanted(state.revision, RoutingTable(routes, default_model), used)
