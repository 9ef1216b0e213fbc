"""A watched directory: what lies in it, whether it has come to rest, and what it is by the names of its files.

models/churn/2026-11-20/        a bundle, or a founding folder, of the model `churn`
models/churn/new.penstock       a bundle in one file
models/churn-7.penstock         the same; the model is the one that it names itself
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from penstock.bundle.importers.founding_names import MODEL_FILE, SCHEMA_FILE
from penstock.bundle.manifest import MANIFEST_FILE, SEAL_FILE
from penstock.bundle.source import ARCHIVE_SUFFIX
from penstock.errors import ControlError, PenstockError

_LOG = logging.getLogger("penstock")
_MOST_FILES: Final = 1000

Kind: TypeAlias = Literal["bundle", "founding", "unknown"]
Shape: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Of each file: its name, bytes, and the times (ns) of its last write and its last change of any kind."""


class Unfinished(Exception):
    """Something is missing yet: it is said once, and looked at again when more has come."""


class Entry(msgspec.Struct, frozen=True):
    """Something in a watched directory. `name` is the folder's, None at the top; `label` is for people."""

    path: Path
    name: str | None
    label: str
    shape: Shape

    @property
    def kind(self) -> Kind:
        """What it is, or will be when it is complete."""
        names = {name for name, *_ in self.shape}
        if self.path.suffix == ARCHIVE_SUFFIX or names & {MANIFEST_FILE, SEAL_FILE}:
            return "bundle"
        return "founding" if names & {SCHEMA_FILE, MODEL_FILE} else "unknown"


class Watched:
    """Looks at a directory again and again, and has `take` take up each entry that is new and at rest. One thread's.

    `take` says whether it is done with the entry as it is; False: it is to be asked again. An Unfinished or a
    PenstockError is told once, and the entry is asked about again when it has changed; a ControlError may pass by
    itself, so it is asked about at every look.
    """

    def __init__(self, root: Path, take: Callable[[Entry], bool], *, is_quiet: bool = False) -> None:
        """`is_quiet`: another one tells if the directory itself cannot be watched."""
        self._root = root
        self._take = take
        self._is_quiet = is_quiet
        self._before: dict[Path, Shape] = {}
        self._done: dict[Path, Shape] = {}
        self._told: dict[Path, set[str]] = {}

    def look(self) -> None:
        """One look: whatever is as it was at the last one, and was not taken up so, is taken up."""
        try:
            found = {entry.path: entry for entry in entries(self._root, self._refused)}
        except OSError as error:
            self._refused(self._root, error)
            return
        self._told = {path: told for path, told in self._told.items() if path in found or path.is_dir()}
        self._done = {path: shape for path, shape in self._done.items() if path in found}
        before, self._before = self._before, {path: entry.shape for path, entry in found.items()}
        for path, entry in found.items():
            if entry.shape and before.get(path) == entry.shape != self._done.get(path) and self._is_done(entry):
                self._done[path] = entry.shape

    def _is_done(self, entry: Entry) -> bool:
        try:
            is_done = self._take(entry)
        except Unfinished as why:
            self._tell(entry.path, "", f"{entry.label} is left alone until it is complete: {why}")
        except (PenstockError, OSError) as error:
            is_passing = isinstance(error, ControlError | OSError)
            then = "it is tried again" if is_passing else "mend it, and it is taken up"
            self._tell(entry.path, str(error), f"{entry.label} is not taken up: {error}; {then}")
            return not is_passing
        else:
            self._told.pop(entry.path, None)
            return is_done
        return True

    def _refused(self, folder: Path, error: OSError) -> None:
        if not self._is_quiet:
            self._tell(folder, str(error), f"{folder} cannot be watched: {error.strerror}")

    def _tell(self, path: Path, key: str, text: str) -> None:
        told = self._told.setdefault(path, set())
        if key not in told:
            told.add(key)
            _LOG.warning("watched: %s", text)


def entries(root: Path, on_refusal: Callable[[Path, OSError], None]) -> Iterator[Entry]:
    """What lies in a watched directory; names that begin with a dot are somebody's scratch.

    Raises OSError where the directory cannot be read; `on_refusal` hears of a model's folder that cannot.
    """
    for top in _shown(root):
        if top.suffix == ARCHIVE_SUFFIX and top.is_file():
            yield Entry(top, None, _label(top.name), shape_of(top))
        elif top.is_dir():
            try:
                inside = _shown(top)
            except OSError as error:
                on_refusal(top, error)
                continue
            for path in inside:
                if path.suffix == ARCHIVE_SUFFIX or path.is_dir():
                    yield Entry(path, top.name, _label(f"{top.name}/{path.name}"), shape_of(path))


def shape_of(path: Path) -> Shape:
    """What changes when anything of a file or folder does; empty for nothing, or too much to be one of ours."""
    found = sorted(itertools.islice(_stats(path), _MOST_FILES + 1))
    return tuple(found) if len(found) <= _MOST_FILES else ()


def _label(name: str) -> str:
    """A name as log lines and the history can have it: any bytes but / may be in one."""
    return "".join(each if each.isprintable() else "?" for each in name)


def _stats(path: Path) -> Iterator[tuple[str, int, int, int]]:
    if path.is_dir():
        yield from _below(path, "")
        return
    with contextlib.suppress(OSError):  # gone since
        stat = path.lstat()
        yield path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _below(folder: str | Path, prefix: str) -> Iterator[tuple[str, int, int, int]]:
    """Of every file below a folder. This runs for all that lies there, at every look."""
    with contextlib.suppress(OSError), os.scandir(folder) as inside:
        for each in inside:
            if each.is_dir(follow_symlinks=False):
                yield from _below(each.path, f"{prefix}{each.name}/")
                continue
            with contextlib.suppress(OSError):
                stat = each.stat(follow_symlinks=False)
                yield prefix + each.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _shown(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
