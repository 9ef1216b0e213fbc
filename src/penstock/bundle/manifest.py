"""The manifest: which files a bundle has, what they are, and the digest that names it.

`manifest.json` lists every file with size and digest; `seal.json` holds the digest of the manifest's own bytes, so
that one value covers the whole bundle. A signature, later, signs the seal.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from penstock.bundle.digest import content_digest, sha256
from penstock.bundle.source import source_of
from penstock.errors import BundleRefused

T = TypeVar("T")

FORMAT: Final = 1
MANIFEST_FILE: Final = "manifest.json"
SEAL_FILE: Final = "seal.json"
SCHEMA_FILE: Final = "schema.yaml"
OUTPUTS_FILE: Final = "outputs.json"
GOLDEN_FILE: Final = "golden.json"
PROOF_FILE: Final = "proof.json"
MAX_MANIFEST_BYTES: Final = 4 << 20

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FILE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9]+)+")


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle: its digest and its size."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `manifest.json` says. `loader` is a key of `bundle/loaders`; never an import path."""

    format: int
    name: str
    flavour: Literal["onnx", "native"]
    loader: str
    model_file: str
    content_digest: str
    created_at: str
    penstock_version: str
    files: dict[str, FileEntry]

    def deciding(self) -> dict[str, str]:
        """The digests of the files that decide answers, by role; from them comes the content digest."""
        roles = {"model": self.model_file, "schema": SCHEMA_FILE, "outputs": OUTPUTS_FILE, "golden": GOLDEN_FILE}
        return {"loader": self.loader, **{role: self.files[name].sha256 for role, name in roles.items()}}


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `seal.json` says: the digest of the manifest's bytes."""

    manifest_sha256: str


def seal_of(manifest: bytes) -> bytes:
    """The bytes of `seal.json` for these bytes of `manifest.json`."""
    return msgspec.json.encode(Seal(sha256(manifest))) + b"\n"


def read_manifest(manifest: bytes, seal: bytes) -> Manifest:
    """The manifest, if its seal covers these very bytes and it is consistent. Raises BundleRefused."""
    sealed = _decoded(seal, Seal, SEAL_FILE).manifest_sha256
    if sealed != sha256(manifest):
        raise BundleRefused(
            f"{MANIFEST_FILE}: the seal is for {sealed}, the file is {sha256(manifest)}: it was changed"
        )
    version = _decoded(manifest, _FormatOnly, MANIFEST_FILE).format
    if version != FORMAT:
        raise BundleRefused(
            f"{MANIFEST_FILE}: format {version}, this Penstock reads format {FORMAT}: "
            f"{'upgrade Penstock' if version > FORMAT else 'pack the model again'}"
        )
    read = _decoded(manifest, Manifest, MANIFEST_FILE)
    require_name(read.name)
    for name in read.files:
        if not _FILE_NAME.fullmatch(name) or name in (MANIFEST_FILE, SEAL_FILE):
            raise BundleRefused(f"{MANIFEST_FILE}: {name!r} is no name for a file of a bundle")
    for needed in (read.model_file, SCHEMA_FILE, OUTPUTS_FILE, GOLDEN_FILE):
        if needed not in read.files:
            raise BundleRefused(f"{MANIFEST_FILE}: {needed} is not listed, and a bundle needs it")
    expected = content_digest(read.format, read.deciding())
    if expected != read.content_digest:
        raise BundleRefused(f"{MANIFEST_FILE}: content digest {read.content_digest}, but its files give {expected}")
    return read


def manifest_of(path: Path) -> Manifest:
    """The manifest of the bundle at `path`; nothing else is read or verified. Raises BundleRefused."""
    source = source_of(path)
    return read_manifest(source.read(MANIFEST_FILE, MAX_MANIFEST_BYTES), source.read(SEAL_FILE, MAX_MANIFEST_BYTES))


def require_name(name: str) -> None:
    """Raise BundleRefused unless `name` can name a model (it becomes part of URLs and paths)."""
    if not NAME.fullmatch(name):
        raise BundleRefused(
            f"{name!r} cannot name a model: up to 64 lower-case letters, digits, '.', '_' and '-', "
            f"beginning with a letter or digit"
        )


class _FormatOnly(msgspec.Struct):
    format: int


def _decoded(data: bytes, kind: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefused(f"{name}: {error}") from error
