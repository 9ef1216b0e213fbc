"""The repository of bundles: what was published, by digest; each file once, however many versions have it.

    files/ab/abcdef…       a file of some bundle, by the SHA-256 of its bytes
    bundles/0123….json     a bundle: its manifest and seal, by the seal's digest, which covers every file

A bundle's files are written first and its list last, so a crash leaves nothing that looks like a bundle and is none.
"""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from penstock.bundle.bundle import Bundle, decoded
from penstock.bundle.digest import sha256
from penstock.bundle.evaluation import Evaluation
from penstock.bundle.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, SEAL_FILE, Manifest, read_manifest
from penstock.bundle.provenance import Provenance
from penstock.bundle.source import source_of
from penstock.control.changes import Lineage, Published
from penstock.control.files import Files
from penstock.control.leftovers import Leftover, discard, old_copies, old_files
from penstock.control.local_files import LocalFiles
from penstock.control.remote_files import RemoteFiles
from penstock.errors import BundleRefused, RepositoryUnavailable

COPIES: Final = "bundles"
"""The folder of a home that has this machine's copies of bundles."""

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_Shape: TypeAlias = tuple[tuple[str, int, int, int], ...]


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`bundles/<seal>.json`: the very bytes of a bundle's manifest and seal."""

    manifest: bytes
    seal: bytes


class Repository:
    """The bundles at `url` (a directory, or a URL of fsspec's; None: in `home`), and copies of them below `home`.

    Thread-safe, and several processes may use one. Nothing is connected to before the first use, and nothing is ever
    fetched from elsewhere. Raises SettingsError and MissingExtra for a URL that cannot be used.
    """

    def __init__(self, url: str | None, *, home: Path) -> None:
        self._files = files_at(url, home)
        self._copies = home / COPIES
        self._verified: dict[str, _Shape] = {}

    def add(self, bundle: Path) -> tuple[str, Published]:
        """Store a bundle, a directory or a `.penstock` file, once it is verified; what is there already is not written.

        Gives the model's name and what is to be published, without a number yet. Raises BundleRefused and
        RepositoryUnavailable.
        """
        opened, listing = _read(bundle)
        for name, entry in opened.manifest.files.items():
            if not self._files.keep(_file(entry.sha256), entry.size_bytes):
                self._files.write(_file(entry.sha256), opened.files[name])
        seal = sha256(listing.manifest)
        self._files.write(_list(seal), msgspec.json.encode(listing) + b"\n")
        return opened.manifest.name, _published(opened, seal)

    def local(self, seal: str) -> Path:
        """Where the bundle of this seal lies on this machine: a directory, every byte of it verified.

        Looked at again only after a file of it has changed; a copy that is not what it was is replaced. Raises
        BundleRefused for what the repository has lost or what was changed there, and RepositoryUnavailable.
        """
        path = self._copies / _hex(seal)
        shape = _shape(path)
        if shape and self._verified.get(seal) == shape:
            return path
        if not shape or not _is_sealed(path, seal):
            self._fetch(seal, path)
        self._verified[seal] = _shape(path)
        return path

    def place(self, seal: str, directory: Path, *, may_link: bool = False) -> None:
        """Make `directory` the bundle of this seal, and verify it. Raises as `local` does.

        If it `may_link`, its files are those of the repository itself where that can be.
        """
        listing = self._listing(seal)
        directory.mkdir()
        for name, entry in read_manifest(listing.manifest, listing.seal).files.items():
            if not self._files.place(_file(entry.sha256), directory / name, may_link=may_link):
                raise BundleRefused(f"{name}: the repository has lost {_file(entry.sha256)}: publish the bundle again")
        (directory / MANIFEST_FILE).write_bytes(listing.manifest)
        (directory / SEAL_FILE).write_bytes(listing.seal)
        try:
            Bundle.open(directory)
        except BundleRefused as error:
            raise BundleRefused(
                f"{error}. It is so in the repository: remove it there, and publish the bundle again"
            ) from error

    def manifest(self, seal: str) -> Manifest:
        """The manifest of a bundle. Raises as `local` does."""
        listing = self._listing(seal)
        return read_manifest(listing.manifest, listing.seal)

    def leftovers(self, seals: Collection[str], in_use: Collection[str] = ()) -> list[Leftover]:
        """The files and copies that none of the bundles of these seals needs, and that are old enough to go.

        Copies whose names are `in_use` stay. Raises BundleRefused for a bundle of them that the repository has lost:
        what it needs is not known then.
        """
        needed = {_list(seal) for seal in seals}
        for seal in seals:
            needed.update(_file(entry.sha256) for entry in self.manifest(seal).files.values())
        return [
            *old_files(self._files, needed),
            *old_copies(self._copies, {_hex(seal) for seal in seals} | set(in_use)),
        ]

    def discard(self, leftovers: Collection[Leftover]) -> None:
        """Remove what `leftovers` found, unless a publish has taken it up again meanwhile."""
        discard(self._files, leftovers)

    def _listing(self, seal: str) -> Listing:
        data = self._files.read(_list(seal))
        if data is None:
            raise BundleRefused(f"the repository has no bundle {seal}: publish it again")
        listing = decoded(data, Listing, _list(seal))
        if sha256(listing.manifest) != seal:
            raise BundleRefused(f"{_list(seal)}: it has the manifest of {sha256(listing.manifest)}: it was changed")
        return listing

    def _fetch(self, seal: str, path: Path) -> None:
        """Make the copy at `path`, or replace it: whole, or not at all."""
        try:
            self._copies.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=self._copies) as scratch:
                draft = Path(scratch) / "bundle"
                self.place(seal, draft, may_link=True)
                with contextlib.suppress(FileNotFoundError):
                    path.rename(Path(scratch) / "before")
                draft.rename(path)
        except OSError as error:
            if _is_sealed(path, seal):  # another thread or process was faster
                return
            raise RepositoryUnavailable(
                f"the bundle {seal} cannot be put into {self._copies}: {error.strerror or error}"
            ) from error


def files_at(url: str | None, home: Path) -> Files:
    """The store that the setting names: `home/repository`, a directory, or what fsspec makes of a URL."""
    if url is None:
        return LocalFiles(home / "repository")
    if url.startswith("file://"):
        return LocalFiles(Path(url.removeprefix("file://")))
    return RemoteFiles(url) if "://" in url else LocalFiles(Path(url))


def lineage_of(manifest: Manifest, provenance: Provenance | None) -> Lineage:
    """Where a bundle says that it comes from."""
    if provenance is None:
        return Lineage(created_at=manifest.created_at)
    dvc = provenance.dvc
    return Lineage(
        packed_by=provenance.packed_by,
        created_at=manifest.created_at,
        git_commit=provenance.git_commit,
        mlflow_run=provenance.mlflow_run,
        dvc_md5=None if dvc is None else dvc.md5,
        dvc_path=None if dvc is None else dvc.path,
    )


def _read(path: Path) -> tuple[Bundle, Listing]:
    """A bundle, verified, and the bytes of its manifest and seal."""
    bundle, source = Bundle.open(path), source_of(path)
    listing = Listing(source.read(MANIFEST_FILE, MAX_MANIFEST_BYTES), source.read(SEAL_FILE, MAX_MANIFEST_BYTES))
    if read_manifest(listing.manifest, listing.seal) != bundle.manifest:
        raise BundleRefused(f"{path.name}: it was changed while it was read")
    return bundle, listing


def _published(bundle: Bundle, seal: str) -> Published:
    evaluation = bundle.part("evaluation.json", Evaluation) or Evaluation(metrics={}, stated={})
    return Published(
        version=0,
        digest=bundle.manifest.content_digest,
        seal=seal,
        size_bytes=sum(entry.size_bytes for entry in bundle.manifest.files.values()),
        flavour=bundle.flavour,
        metrics=_finite(evaluation.stated) | _finite(evaluation.metrics),
        evaluation_set=evaluation.evaluation_set,
        lineage=lineage_of(bundle.manifest, bundle.part("provenance.json", Provenance)),
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _is_sealed(path: Path, seal: str) -> bool:
    """Whether the bundle at `path` is the one of this seal, whole."""
    try:
        return sha256(_read(path)[1].manifest) == seal
    except (BundleRefused, OSError):
        return False


def _shape(directory: Path) -> _Shape:
    """What changes when a file of a directory does; empty if there is none."""
    try:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in directory.iterdir()]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in found))


def _hex(digest: str) -> str:
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise BundleRefused(f"{digest[:80]!r} is no digest: expected sha256: and 64 hexadecimal digits")
    return found.group(1)


def _file(digest: str) -> str:
    name = _hex(digest)
    return f"files/{name[:2]}/{name}"


def _list(seal: str) -> str:
    return f"bundles/{_hex(seal)}.json"
