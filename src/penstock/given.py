"""What the command line gives to serve: bundles as versions of models, with no control plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penstock.bundle.manifest import manifest_of
from penstock.routing import CHAMPION, Routes, RoutingTable, Wanted


def given(bundles: Sequence[Path], default_model: str | None = None) -> Wanted:
    """`bundles` as what is wanted: those of one name are its versions 1, 2, … in their order, the first the champion.

    Raises BundleRefused for a manifest that cannot be read.
    """
    versions: dict[str, dict[int, str]] = {}
    paths: dict[str, dict[int, str]] = {}
    for path in bundles:
        manifest = manifest_of(path)
        digests = versions.setdefault(manifest.name, {})
        number = 1 + len(digests)
        digests[number] = manifest.content_digest
        paths.setdefault(manifest.name, {})[number] = str(path)
    routes = {name: Routes(digests, {CHAMPION: 1}) for name, digests in versions.items()}
    return Wanted(0, RoutingTable(routes, default_model), paths)


def is_given(wanted: Wanted) -> bool:
    """Whether it is of the command line, to be served whole or not at all; else it is served as far as that goes."""
    return wanted.revision == 0 and bool(wanted.table.models)
