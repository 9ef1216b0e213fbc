"""From bundles on disk to models that answer, as the settings say: computed here, or by another process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.bundle.bundle import Bundle
from penstock.cores import cores
from penstock.errors import BundleRefused
from penstock.runtime import Cost, Model, RemoteModel, Version
from penstock.schema import Check
from penstock.settings import Settings
from penstock.started import Loaded


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


def next_version(name: str, models: Sequence[Version]) -> int:
    """The number of the next version of `name` after `models`."""
    return 1 + sum(model.name == name for model in models)


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
