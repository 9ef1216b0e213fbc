"""A reference to data that DVC keeps, as its `.dvc` file says: which data, not the data themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import yaml

from penstock.errors import PackRefused

_ADVICE: Final = "Name the .dvc file that `dvc add` has written for the training data"


class DvcReference(msgspec.Struct, frozen=True):
    """What a `.dvc` file says of the data that it stands for: their MD5 (of a folder's list: `….dir`), and their path
    as it is written there, beside the file. Nothing of it is checked.
    """

    md5: str
    path: str
    size_bytes: int | None = None


class _Out(msgspec.Struct, frozen=True):
    md5: str
    path: str
    size: int | None = None


class _DvcFile(msgspec.Struct, frozen=True):
    outs: list[_Out]


def read_dvc(path: Path) -> DvcReference:
    """The reference in a `.dvc` file. Raises PackRefused for what is none, or stands for more than one thing."""
    try:
        outs = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _DvcFile).outs
    except OSError as error:
        raise PackRefused(path.name, f"it cannot be read: {error.strerror}", _ADVICE) from error
    except (UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:300]
        raise PackRefused(
            path.name, f"expected a .dvc file with `outs`, each with md5 and path: {said}", _ADVICE
        ) from error
    if len(outs) != 1:
        raise PackRefused(path.name, f"expected one entry in `outs`, got {len(outs)}", _ADVICE)
    return DvcReference(md5=outs[0].md5, path=outs[0].path, size_bytes=outs[0].size)
