"""The repository's files in a local directory (or one of a network filesystem)."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from penstock.control.files import unavailable
from penstock.durable import sync_directory

_DRAFTS: Final = "partial"
_MODE: Final = 0o444  # what lies elsewhere as a link of it shall not be written to


class LocalFiles:
    """Files below `root`, which is made by the first write. See `Files`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(self, name: str, size_bytes: int) -> bool:
        """Whether a file of that size is there; touched."""
        path = self._root / name
        with self._told(f"look for {name}"):
            try:
                if path.stat().st_size != size_bytes:
                    return False
                os.utime(path)
            except FileNotFoundError:
                return False
        return True

    def write(self, name: str, data: bytes) -> None:
        """Write under another name, then rename: nobody sees half of it, nor does a crash or a full disk leave any."""
        path = self._root / name
        with self._told(f"write {name}"):
            for folder in (path.parent, self._root / _DRAFTS):
                folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self._root / _DRAFTS)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), _MODE)
                    os.fsync(file.fileno())
                Path(draft).replace(path)
            finally:
                Path(draft).unlink(missing_ok=True)
            sync_directory(path.parent)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""
        with self._told(f"read {name}"):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def place(self, name: str, path: Path, *, may_link: bool) -> bool:
        """A hard link, or a copy where that may not be or the filesystems differ. False if there is no such file."""
        source = self._root / name
        with self._told(f"give {name}"):
            with contextlib.suppress(OSError):
                if may_link:
                    os.link(source, path, follow_symlinks=False)
                    return True
            try:
                shutil.copyfile(source, path)
            except FileNotFoundError:
                return False
        return True

    def sizes(self, folder: str) -> dict[str, int]:
        """All files below a folder, with their bytes."""
        found = {}
        with self._told(f"list {folder}"):
            for path in (self._root / folder).rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # removed since
                    if path.is_file():
                        found[path.relative_to(self._root).as_posix()] = path.stat().st_size
        return found

    def age_s(self, name: str) -> float | None:
        """Seconds since it was written or touched."""
        with self._told(f"look for {name}"):
            try:
                return time.time() - (self._root / name).stat().st_mtime
            except FileNotFoundError:
                return None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._told(f"remove {name}"):
            (self._root / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unavailable(str(self._root), doing, error) from error
