"""From bundles on disk to models that answer, as the settings say: computed here, or by another process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec

from penstock.bundle.bundle import Bundle
from penstock.bundle.manifest import manifest_of
from penstock.cores import cores
from penstock.errors import BundleRefused, PenstockError
from penstock.routing import CHAMPION, Routes, RoutingTable, Wanted
from penstock.runtime import Cost, Dormant, Host, Model, RemoteModel, Version
from penstock.schema import Check
from penstock.settings import Settings
from penstock.started import Loaded

Key: TypeAlias = tuple[str, int]
"""A model's name and the number of a version."""

_NO_ROUTES = Routes({}, {})


def load_version(wanted: Wanted, key: Key, settings: Settings, apart: Mapping[Key, Loaded] | None = None) -> Version:
    """Open, verify, load and prove a version of `wanted`. A native one is computed by the process that `apart` says has
    loaded it, or here if that is None. From any thread. Raises BundleRefused and MissingExtra.
    """
    path, digest = wanted.path(*key), wanted.table.models[key[0]].versions[key[1]]
    model: Version
    if apart is None or manifest_of(path).flavour != "native":
        model = load_model(path, key[1], settings)
    elif key in apart:
        model = remote_model(path, apart[key], settings)
    else:
        raise BundleRefused(f"{path}: no process has loaded it")
    if (model.name, model.digest) != (key[0], digest):
        raise BundleRefused(f"{path}: expected {key[0]} {digest}, it is {model.name} {model.digest}: it was changed")
    return model


def dormant_version(wanted: Wanted, key: Key, settings: Settings) -> Dormant:
    """A version of `wanted` that its first call loads: its bundle but for the model is read and verified.

    The host gets it among the others (`Host.swap`), and loads it by its `load`. From any thread. Raises BundleRefused.
    """
    path, digest = wanted.path(*key), wanted.table.models[key[0]].versions[key[1]]
    bundle = Bundle.peek(path)
    manifest = bundle.manifest
    if (manifest.name, manifest.content_digest) != (key[0], digest):
        raise BundleRefused(
            f"{path}: expected {key[0]} {digest}, it is {manifest.name} {manifest.content_digest}: it was changed"
        )
    check = Check(bundle.schema, max_text=settings.server.max_text_chars)
    return Dormant(bundle, version=key[1], check=check, cost=Cost())


def load_model(path: Path, version: int, settings: Settings) -> Model:
    """Open, verify, load and prove the bundle at `path` in this process. Raises BundleRefused and MissingExtra."""
    before_bytes = resident_bytes()
    bundle = Bundle.open(path)
    model = Model.load(
        bundle,
        version=version,
        trusted=settings.sklearn.trusted,
        allow_version_skew=settings.native.allow_version_skew,
        max_text_chars=settings.server.max_text_chars,
        threads=max(1, cores() // max(1, settings.server.workers or 1)),
    )
    grown_bytes = max(resident_bytes() - before_bytes, len(bundle.model_bytes))
    model.cost = msgspec.structs.replace(model.cost, memory_bytes=grown_bytes)
    model.bundle = _without_model(bundle)
    return model


def remote_model(path: Path, loaded: Loaded, settings: Settings) -> RemoteModel:
    """Open and verify the bundle at `path`, which another process has loaded. Raises BundleRefused if not this one."""
    bundle = Bundle.open(path)
    if bundle.manifest.content_digest != loaded.digest:
        raise BundleRefused(
            f"{path}: it was {loaded.digest} when its process loaded it and is {bundle.manifest.content_digest} now: "
            "do not change a bundle that is served; start the server again"
        )
    cost = Cost(loaded.row_us, loaded.rows_64_us, loaded.memory_bytes)
    check = Check(bundle.schema, max_text=settings.server.max_text_chars)
    return RemoteModel(_without_model(bundle), version=loaded.version, check=check, cost=cost)


def served_table(wanted: RoutingTable, there: Mapping[Key, str], before: RoutingTable) -> RoutingTable:
    """`wanted` as far as the versions that are `there` (with their digests) go. Pure.

    An alias of another version means what it did `before`, if that is there. A champion that is nowhere is stood in for
    by the newest version that no alias names, which was champion once. A model without any alias is left out.
    """
    models = {}
    for name, routes in wanted.models.items():
        here = {number for number, digest in routes.versions.items() if there.get((name, number)) == digest}
        last = before.models.get(name, _NO_ROUTES)
        stay = {number for number, digest in last.versions.items() if there.get((name, number)) == digest}
        aliases = {alias: number for alias, number in routes.aliases.items() if number in here}
        for alias in routes.aliases.keys() - aliases.keys():
            if last.aliases.get(alias) in stay:
                aliases[alias] = last.aliases[alias]
        arms = set() if routes.experiment is None else routes.experiment.versions
        kept = here - set(routes.aliases.values()) - arms
        if CHAMPION in routes.aliases and CHAMPION not in aliases and kept:
            aliases[CHAMPION] = max(kept)
        if aliases:
            numbers = sorted(here | set(aliases.values()))
            versions = {number: there[name, number] for number in numbers}
            models[name] = Routes(versions, aliases, routes.options, routes.experiment)
    return RoutingTable(models, wanted.default_model)


def serve(host: Host, wanted: RoutingTable, made: Iterable[Version], failures: Mapping[str, str]) -> dict[str, str]:
    """Have `host` serve `wanted` by the versions that were `made` for it and those that it has, all at once, as far as
    that goes: `failures` say by `name/version` what could not be made. Gives them, and those of this.

    Where a model's options do not fit, that model goes on as it was, and all others change.
    """
    fresh = {(version.name, version.version): version for version in made}
    there = {(version.name, version.version): version.digest for version in (*host.models(), *fresh.values())}
    usable = {key: digest for key, digest in there.items() if f"{key[0]}/{key[1]}" not in failures}
    table = served_table(wanted, usable, host.table)

    def apply(chosen: RoutingTable) -> None:
        host.apply(chosen, [fresh[key] for key in chosen.digests() if key in fresh])

    found = dict(failures)
    try:
        apply(table)
    except PenstockError:
        found |= _one_by_one(host, table, apply)
    return found


def _one_by_one(host: Host, table: RoutingTable, apply: Callable[[RoutingTable], None]) -> dict[str, str]:
    failures = {}
    for name in sorted(host.table.models.keys() | table.models.keys()):
        models = {other: routes for other, routes in host.table.models.items() if other != name}
        if name in table.models:
            models[name] = table.models[name]
        try:
            apply(RoutingTable(models, table.default_model))
        except PenstockError as error:
            routes = table.models[name]
            failures[f"{name}/{routes.aliases.get(CHAMPION, max(routes.versions))}"] = str(error)
    return failures


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """The resident memory of this process; 0 where it cannot be read."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _without_model(bundle: Bundle) -> Bundle:
    """A bundle without the model's bytes, which nobody reads once it is loaded."""
    files = {name: data for name, data in bundle.files.items() if name != bundle.manifest.model_file}
    return msgspec.structs.replace(bundle, files=files)
