"""A sealed bundle, verified: the value that every loader, the server and the CLI take."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from penstock.bundle.digest import sha256
from penstock.bundle.golden import Golden
from penstock.bundle.manifest import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    OUTPUTS_FILE,
    PROOF_FILE,
    SCHEMA_FILE,
    SEAL_FILE,
    Manifest,
    read_manifest,
)
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.source import Source, source_of
from penstock.bundle.verdict import Proof, Verdict
from penstock.errors import BundleRefused, PenstockError
from penstock.schema import Schema
from penstock.schema.yaml_form import schema_from_yaml

T = TypeVar("T")

MAX_BUNDLE_BYTES: Final = 8 << 30


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose every byte is what its seal says. Reading it runs nothing of the model's."""

    path: Path
    manifest: Manifest
    schema: Schema
    outputs: OutputSpec
    golden: Golden
    files: dict[str, bytes]

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Read and verify the bundle at `path`: a directory or a `.penstock` file.

        Raises BundleRefused naming the file that was changed, is missing, is too many, or is no plain file; the
        format that this version does not read; the schema or outputs that contradict themselves.
        """
        return cls._read(path, has_model=True)

    @classmethod
    def peek(cls, path: Path) -> Bundle:
        """As `open`, but for the model file, which is not read: what rows and answers are, at little cost."""
        return cls._read(path, has_model=False)

    @classmethod
    def _read(cls, path: Path, *, has_model: bool) -> Bundle:
        source = source_of(path)
        manifest = read_manifest(
            source.read(MANIFEST_FILE, MAX_MANIFEST_BYTES), source.read(SEAL_FILE, MAX_MANIFEST_BYTES)
        )
        files = _verified(source, manifest, unread=() if has_model else (manifest.model_file,))
        return cls(
            path=path,
            manifest=manifest,
            schema=_schema(files[SCHEMA_FILE]),
            outputs=decoded(files[OUTPUTS_FILE], OutputSpec, OUTPUTS_FILE),
            golden=decoded(files[GOLDEN_FILE], Golden, GOLDEN_FILE),
            files=files,
        )

    @property
    def model_bytes(self) -> bytes:
        """The verified bytes of the model file."""
        return self.files[self.manifest.model_file]

    @property
    def flavour(self) -> str:
        """`onnx` or `native`."""
        return self.manifest.flavour

    @property
    def verdict(self) -> Verdict:
        """How the flavour was decided. Raises BundleRefused if the bundle does not say."""
        return decoded(self.files.get(PROOF_FILE, b""), Verdict, PROOF_FILE)

    @property
    def proof(self) -> Proof | None:
        """The comparison with the original; None where there was no graph to compare."""
        return self.verdict.proof

    def part(self, name: str, kind: type[T]) -> T | None:
        """A describing file (`proof.json`, `evaluation.json`, …) as `kind`, or None if the bundle has none."""
        return decoded(self.files[name], kind, name) if name in self.files else None


def decoded(data: bytes, kind: type[T], name: str) -> T:
    """`data` as `kind`. Raises BundleRefused naming the file."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleRefused(f"{name}: {error}") from error


def _verified(source: Source, manifest: Manifest, unread: Collection[str]) -> dict[str, bytes]:
    extra = source.names() - set(manifest.files) - {MANIFEST_FILE, SEAL_FILE}
    if extra:
        raise BundleRefused(f"{min(extra)}: the manifest does not list this file")
    stated_bytes = sum(entry.size_bytes for entry in manifest.files.values())
    if stated_bytes > MAX_BUNDLE_BYTES:
        raise BundleRefused(f"{MANIFEST_FILE}: {stated_bytes} bytes in all; a bundle has at most {MAX_BUNDLE_BYTES}")
    files = {}
    for name, entry in sorted(manifest.files.items()):
        if name in unread:
            continue
        data = source.read(name, entry.size_bytes)
        if sha256(data) != entry.sha256:
            raise BundleRefused(f"{name}: the manifest says {entry.sha256}, the file is {sha256(data)}: it was changed")
        files[name] = data
    return files


def _schema(data: bytes) -> Schema:
    try:
        return schema_from_yaml(data.decode())
    except (PenstockError, UnicodeDecodeError) as error:
        raise BundleRefused(f"{SCHEMA_FILE}: {error}") from error
