"""Bundles that are one of another: the same model as another version, broken versions, another name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.bundle.bundle import Bundle
from penstock.bundle.manifest import GOLDEN_FILE
from penstock.bundle.write import Identity, sealed, write_bundle


def variant(
    bundle: Path, out: Path, without: int = 0, *, name: str | None = None, is_archive: bool = False, **files: bytes
) -> Path:
    """`bundle` sealed anew below `out`: `without` so many golden rows, which makes it another version; as `name`.

    `files` replace or add describing files, their dots as double underscores (`evaluation__json=b"{}"`).
    """
    opened = Bundle.open(bundle)
    golden = opened.golden
    kept = len(golden.rows) - without
    fewer = msgspec.structs.replace(
        golden, rows=golden.rows[:kept], answers={name: values[:kept] for name, values in golden.answers.items()}
    )
    told = opened.manifest
    parts = {**opened.files, GOLDEN_FILE: msgspec.json.encode(fewer)}
    parts |= {file.replace("__", "."): data for file, data in files.items()}
    identity = Identity(name or told.name, told.flavour, told.loader, told.model_file)
    return write_bundle(sealed(identity, parts), out, identity.name, is_archive=is_archive)
