"""What is done with what appears in the watched directory: a bundle is published, a founding folder imported first.

The first version of a model becomes its champion, as always; any other one waits for somebody to deploy it.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from penstock.bundle.digest import sha256
from penstock.bundle.importers.apart import Limits, carry_out_apart
from penstock.bundle.importers.founding_names import ENCODERS_FILE, MODEL_FILE, SCALER_FILE, SCHEMA_FILE
from penstock.bundle.importers.order import Order
from penstock.bundle.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, SEAL_FILE, Manifest, read_manifest, require_name
from penstock.bundle.source import source_of
from penstock.control.changes import Who
from penstock.control.control import By, Control
from penstock.control.repository import COPIES
from penstock.controller.seen import Seen
from penstock.controller.watched import Entry, Unfinished, shape_of
from penstock.errors import BundleRefused

_LOG = logging.getLogger("penstock")
WATCH: Final = Who("watch", is_verified=True)
COMPLETE_FILE: Final = "COMPLETE"
"""Beside a founding folder's files it says that there are no others to come."""

_REST_S: Final = 5.0
_NEEDED: Final = (MODEL_FILE, SCHEMA_FILE)
_USUAL: Final = (ENCODERS_FILE, SCALER_FILE)


class Publishing:
    """Publishes bundles of the watched directory, once each; `wake` is called when there is a new version."""

    def __init__(self, control: Control, wake: Callable[[], None]) -> None:
        self._control = control
        self._wake = wake

    def take(self, entry: Entry) -> bool:
        """Publish a bundle that is complete. Raises Unfinished, BundleRefused and ControlError; True for other things.

        One that was published once, even if its version has been removed since, is not published again.
        """
        if entry.kind == "unknown":
            raise Unfinished(f"neither a bundle ({MANIFEST_FILE}, {SEAL_FILE}) nor a founding folder ({MODEL_FILE})")
        if entry.kind != "bundle":
            return True
        manifest, seal = _complete(entry)
        if entry.name not in (None, manifest.name):
            raise BundleRefused(f"it is a bundle of {manifest.name!r} in the folder {entry.name!r}: move it")
        model = self._control.state().models.get(manifest.name)
        if model is None or all(version.published.seal != seal for version in model.versions.values()):
            self.publish(entry, entry.path)
        return True

    def publish(self, entry: Entry, bundle: Path) -> None:
        """Publish what was made of an entry. Raises as `Control.publish` does."""
        by = By(who=WATCH, reason=f"appeared as {entry.label} in the watched directory")
        name, version, events = self._control.publish(bundle, by)
        if events:
            _LOG.info("watched: %s is version %d of %s", entry.label, version.number, name)
            self._wake()


class Importing:
    """Makes bundles of founding folders, whose pickles run code, in a child process, and has them published."""

    def __init__(self, publishing: Publishing, seen: Seen, home: Path) -> None:
        self._publishing = publishing
        self._seen = seen
        self._scratch = home / COPIES

    def take(self, entry: Entry) -> bool:
        """Import and publish a founding folder that is complete and at rest. True for other things, and what is done.

        Raises Unfinished, PackRefused and whatever else speaks against it. Such a folder has no seal, so a part of a
        copy could look whole: all four files are asked for, or a file COMPLETE, and rest for some seconds.
        """
        if entry.kind != "founding":
            return True
        require_name(entry.name or "")
        names = {name for name, *_ in entry.shape}
        missing = [name for name in _NEEDED if name not in names]
        missing += [name for name in _USUAL if name not in names and COMPLETE_FILE not in names]
        if missing:
            raise Unfinished(
                f"{missing[0]} is missing; if a founding folder has no {' or '.join(_USUAL)}, "
                f"put a file {COMPLETE_FILE} into it"
            )
        if time.time() - max(max(times) for _, _, *times in entry.shape) / 1e9 < _REST_S:
            return False
        digest = _digest(entry)
        if not self._seen.has(entry.label, digest):
            if not self._is_published(entry):
                return False
            self._seen.note(entry.label, digest)
        return True

    def _is_published(self, entry: Entry) -> bool:
        """Whether it was imported and published; False if it changed meanwhile."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".import-", dir=self._scratch) as out:
            order = Order(kind="founding", source=str(entry.path), name=entry.name or "", out=out)
            bundle = carry_out_apart(order, Limits(), lambda step: None)
            if shape_of(entry.path) != entry.shape:
                return False
            self._publishing.publish(entry, bundle.path)
        return True


def refuse_founding(entry: Entry) -> bool:
    """Say of founding folders why they are left alone. Raises BundleRefused."""
    if entry.kind == "founding":
        raise BundleRefused("it is a founding folder, whose pickles run code, and `watch.allow_unsafe` is off")
    return True


def _complete(entry: Entry) -> tuple[Manifest, str]:
    """The manifest and the seal's digest of a bundle that is all there. Raises Unfinished and BundleRefused.

    Only names and sizes are looked at: publishing verifies every byte.
    """
    if entry.path.is_dir():
        sizes = {name: size for name, size, *_ in entry.shape}
        for name in (MANIFEST_FILE, SEAL_FILE):
            if not sizes.get(name):
                raise Unfinished(f"{name} is missing")
    source = source_of(entry.path)
    data = source.read(MANIFEST_FILE, MAX_MANIFEST_BYTES)
    manifest = read_manifest(data, source.read(SEAL_FILE, MAX_MANIFEST_BYTES))
    if entry.path.is_dir():
        for name, stated in manifest.files.items():
            if sizes.get(name, -1) < stated.size_bytes:
                raise Unfinished(f"{name} has {sizes.get(name, 0):,} of {stated.size_bytes:,} bytes")
    return manifest, sha256(data)


def _digest(entry: Entry) -> str:
    """The digest of an entry's files, with their names."""
    found = hashlib.sha256()
    for name, *_ in entry.shape:
        with (entry.path / name).open("rb") as file:
            found.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()
