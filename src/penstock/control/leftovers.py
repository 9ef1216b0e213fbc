"""Files of the repository, and copies of bundles on this machine, that nothing refers to any more."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Collection, Iterator, Set
from pathlib import Path
from typing import Final

import msgspec

from penstock.control.files import GRACE_S, Files

_FOLDERS: Final = ("bundles", "files", "partial")  # lists first: what is listed is there


class Leftover(msgspec.Struct, frozen=True):
    """A file of the repository, or with a `copy` a directory of this machine; `size_bytes` are freed with it."""

    name: str
    size_bytes: int
    copy: Path | None = None


def old_files(files: Files, needed: Set[str]) -> Iterator[Leftover]:
    """The files that are not `needed`, nor so young that their publish may be under way."""
    for folder in _FOLDERS:
        for name, size_bytes in sorted(files.sizes(folder).items()):
            if name not in needed and _is_old(files.age_s(name)):
                yield Leftover(name, size_bytes)


def old_copies(copies: Path, needed: Set[str]) -> Iterator[Leftover]:
    """The copies in a home that are not `needed`, and what a crash has left half made."""
    for path in sorted(copies.iterdir()) if copies.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # another one's scratch, gone since
            if path.name not in needed and _is_old(time.time() - path.stat().st_mtime):
                yield Leftover(f"{copies.parent.name}/{copies.name}/{path.name}", _freed_bytes(path), path)


def discard(files: Files, leftovers: Collection[Leftover]) -> None:
    """Remove them. One that was written or touched since it was found is young, and stays."""
    for leftover in leftovers:
        if leftover.copy is not None:
            shutil.rmtree(leftover.copy, ignore_errors=True)
        elif _is_old(files.age_s(leftover.name)):
            files.remove(leftover.name)


def _is_old(age_s: float | None) -> bool:
    return age_s is not None and age_s > GRACE_S


def _freed_bytes(path: Path) -> int:
    """A file with another name somewhere, such as in the repository, frees nothing."""
    stats = [each.stat() for each in path.rglob("*") if each.is_file()]
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)
