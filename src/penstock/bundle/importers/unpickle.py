"""The only module that opens pickles. It runs in the child process of `apart.py`, when `--allow-unsafe` was said."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import msgspec

from penstock.bundle.importers.order import Order
from penstock.errors import MissingExtra, PackRefused


class Unpickled(msgspec.Struct, frozen=True):
    """What was in the file, and the warnings of its libraries (another version, mostly)."""

    content: Any
    notes: tuple[str, ...]


def unpickle(path: Path, order: Order) -> Unpickled:
    """The object in a pickle or joblib file, whose code runs while it is read.

    Raises PackRefused outside of the child process, and naming the file when it cannot be read.
    """
    require_permission(path, order)
    import joblib

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        content = _read(joblib.load, path)
    return Unpickled(content, tuple(dict.fromkeys(_first_line(warning.message) for warning in caught)))


def unpickle_torch(path: Path, order: Order) -> Any:
    """The module in a file that torch.save wrote whole. Raises as `unpickle` does, and MissingExtra without torch."""
    require_permission(path, order)
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", "torch", f"reading {path.name}") from None
    return _read(lambda file: torch.load(file, map_location="cpu", weights_only=False), path)


def unpickle_exported(path: Path, order: Order) -> Any:
    """The module of a file that torch.export wrote. Raises as `unpickle` does, and MissingExtra without torch."""
    require_permission(path, order)
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", "torch", f"reading {path.name}") from None
    return _read(lambda file: torch.export.load(str(file)).module(), path)


def unpickle_skops(path: Path, order: Order) -> Any:
    """The object in a skops file, with whatever types it holds. Raises as `unpickle` does."""
    require_permission(path, order)
    from skops.io import get_untrusted_types, load

    return _read(lambda file: load(file, trusted=get_untrusted_types(file=file)), path)


def require_permission(path: Path, order: Order) -> None:
    """Raise PackRefused unless the order came through the child process."""
    if not order.may_unpickle:
        raise PackRefused(
            path.name,
            "unpickling runs whatever code is in the file",
            "Say --allow-unsafe for a file that you made yourself, or save the model with skops.io.dump",
        )


def _read(load: Any, path: Path) -> Any:
    try:
        return load(path)
    except FileNotFoundError:
        raise PackRefused(path.name, "there is no such file", "Check the path, or copy the file there") from None
    except MemoryError:
        raise
    except Exception as error:  # unpickling runs foreign code, which raises whatever it likes
        said = f"{type(error).__name__}: {_first_line(error)}"
        advice = "Write it again with joblib.dump, under the library versions that are installed here"
        raise PackRefused(path.name, f"it could not be read ({said})", advice) from error


def _first_line(said: object) -> str:
    return str(said).strip().partition("\n")[0][:300]
