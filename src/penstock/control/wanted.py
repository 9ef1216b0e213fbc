"""What a machine ought to serve, from the state: pure. The versions that an alias names, those that answer in place of
others, and those that were champion last, which stay loaded so that a rollback is a change of the table alone.
What the alias `shadow` names is fetched and tried like them, and no worker serves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from penstock.control.changes import Moved
from penstock.control.state import ModelState, State
from penstock.routing import CHAMPION, SHADOW, ModelOptions, Routes, RoutingTable, Wanted

_NONE = Routes({}, {})


def wanted_versions(model: ModelState, kept: int, before: Wanted | None = None, node: str = "") -> list[int]:
    """The numbers of the versions of a model that a machine tries: those to be loaded, and those that would go on if
    one of them cannot be: what each alias meant before, and what is served now on this machine, `node`.
    """
    last = _NONE if before is None else before.table.models.get(model.name, _NONE)
    meant = (number for alias in served_aliases(model) for number in _meant(model, alias, last, node))
    shadows = {model.aliases[SHADOW]} if SHADOW in model.aliases else set()
    return sorted({*meant, *shadows, *_loaded(model, kept)} & set(model.present))


def served_aliases(model: ModelState) -> dict[str, int]:
    """The aliases by which workers answer."""
    return {alias: number for alias, number in model.aliases.items() if alias != SHADOW}


def wanted_of(
    state: State,
    paths: Mapping[str, Mapping[int, str]],
    *,
    before: Wanted,
    default_model: str | None = None,
    kept: int = 1,
    node: str = "",
) -> Wanted:
    """What ought to be served on a machine (`node`) where the bundles at `paths` are, loaded and proven.

    A version that is not among them is left out: an alias that names it goes on meaning what it did in `before`, which
    is what the machine was to serve last, or what it served, or what it meant before, as long as that is there; else
    the alias is left out.
    """
    routes, used = {}, {}
    for name, model in state.models.items():
        there = paths.get(name, {})
        last = before.table.models.get(name, _NONE)
        meant = {alias: list(_meant(model, alias, last, node)) for alias in served_aliases(model)}
        found = _routes(model, there, meant, kept)
        if found.aliases:
            routes[name] = found
            used[name] = {number: there[number] for number in found.versions}
    return Wanted(state.revision, RoutingTable(routes, default_model), used)


def _routes(model: ModelState, there: Mapping[int, str], meant: Mapping[str, list[int]], kept: int) -> Routes:
    usable = {alias: [number for number in numbers if number in there] for alias, numbers in meant.items()}
    aliases = {alias: numbers[0] for alias, numbers in usable.items() if numbers}
    loaded = sorted({*aliases.values(), *(set(_loaded(model, kept)) & set(there))})
    digests = {number: model.versions[number].published.digest for number in loaded}
    return Routes(digests, aliases, _options(model.config.options, there), model.experiment)


def _meant(model: ModelState, alias: str, last: Routes, node: str) -> Iterator[int]:
    """The versions by which an alias may answer, the best first: what it names, then what was served."""
    yield model.aliases[alias]
    if alias in last.aliases:
        yield last.aliases[alias]
    serving = model.serving.get(node, {})
    if alias in serving:
        yield serving[alias]
    moved = model.moved[alias].change
    if isinstance(moved, Moved) and moved.before is not None:
        yield moved.before
    if alias == CHAMPION and model.rollback_to is not None:
        yield model.rollback_to


def _loaded(model: ModelState, kept: int) -> list[int]:
    """What is to be in memory: versions that aliases and arms name, a fallback's, and `kept` others that were champion,
    the one that a rollback goes back to first.
    """
    fallback = model.config.options.fallback
    named = {
        *served_aliases(model).values(),
        *model.arms,
        *([] if fallback is None or fallback.version is None else [fallback.version]),
    }
    back = [] if model.rollback_to is None else [model.rollback_to]
    others = [number for number in dict.fromkeys((*back, *model.recent)) if number not in named]
    return [*named, *others[:kept]]


def _options(options: ModelOptions, there: Mapping[int, str]) -> ModelOptions:
    """Without a fallback whose version is not there: nothing answers by what is not loaded."""
    fallback = options.fallback
    if fallback is None or fallback.version is None or fallback.version in there:
        return options
    return msgspec.structs.replace(options, fallback=None)
