"""Writing a bundle: files, manifest and seal, into a directory that appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from penstock.bundle.digest import content_digest, sha256
from penstock.bundle.manifest import FORMAT, MANIFEST_FILE, SEAL_FILE, FileEntry, Manifest, seal_of
from penstock.bundle.source import ARCHIVE_SUFFIX, write_archive
from penstock.errors import PackRefused


class Identity(msgspec.Struct, frozen=True):
    """What the manifest says beyond its files."""

    name: str
    flavour: Literal["onnx", "native"]
    loader: str
    model_file: str


def sealed(identity: Identity, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """`files` with the manifest and the seal that cover them."""
    entries = {name: FileEntry(sha256(data), len(data)) for name, data in sorted(files.items())}
    draft = Manifest(
        format=FORMAT,
        name=identity.name,
        flavour=identity.flavour,
        loader=identity.loader,
        model_file=identity.model_file,
        content_digest="",
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        penstock_version=metadata.version("penstock"),
        files=entries,
    )
    manifest = msgspec.structs.replace(draft, content_digest=content_digest(FORMAT, draft.deciding()))
    written = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    return {**files, MANIFEST_FILE: written, SEAL_FILE: seal_of(written)}


def write_bundle(files: Mapping[str, bytes], out: Path, name: str, *, is_archive: bool) -> Path:
    """Write sealed `files` as `out/<name>-<n>`, the next free number, and return the path.

    Nothing half-written is ever seen under that name. Raises PackRefused when the disk refuses.
    """
    suffix = ARCHIVE_SUFFIX if is_archive else ""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=out) as scratch:
            draft = Path(scratch) / f"bundle{suffix}"
            _write_draft(files, draft, is_archive=is_archive)
            return _place(draft, out, name, suffix)
    except OSError as error:
        raise PackRefused(
            "write", f"{out}: {error.strerror or error}", "Free space, or choose another --out"
        ) from error


def _write_draft(files: Mapping[str, bytes], draft: Path, *, is_archive: bool) -> None:
    if is_archive:
        write_archive(dict(files), draft)
        return
    draft.mkdir()
    for name, data in files.items():
        (draft / name).write_bytes(data)


def _place(draft: Path, out: Path, name: str, suffix: str) -> Path:
    number = 1 + max((_number(path.name, name) for path in out.iterdir()), default=0)
    while True:
        path = out / f"{name}-{number}{suffix}"
        try:
            if suffix:
                os.link(draft, path)
            else:
                draft.rename(path)  # onto an empty or missing directory only: a taken number raises
        except FileExistsError:
            number += 1
        except OSError:
            if not path.exists():
                raise
            number += 1
        else:
            return path


def _number(file_name: str, name: str) -> int:
    tail = file_name.removeprefix(f"{name}-").removesuffix(ARCHIVE_SUFFIX)
    return int(tail) if file_name.startswith(f"{name}-") and tail.isascii() and tail.isdigit() else 0
