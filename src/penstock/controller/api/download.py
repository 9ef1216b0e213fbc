"""A backup on its way out: made in a folder of the home, told as one tar archive, and gone afterwards.

No path comes from a client: what is asked for is always the whole home.
"""

from __future__ import annotations

import shutil
import tarfile
import uuid
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Final

import anyio.to_thread

from penstock.errors import RepositoryUnavailable

_PART_BYTES: Final = 1 << 20


class Downloads:
    """Folders that are sent and removed."""

    def __init__(self, home: Path) -> None:
        """Remove what an earlier process has left; only the holder of the home's lock makes one."""
        self._folder = home / "transit"
        for left in (*self._folder.glob("backup-*"), *self._folder.glob(".backup-*")):
            shutil.rmtree(left, ignore_errors=True)

    def fresh(self) -> Path:
        """A path at which there is nothing yet. Raises RepositoryUnavailable."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RepositoryUnavailable(f"no backup can be made on the controller's disk: {error.strerror}") from error
        return self._folder / f"backup-{uuid.uuid4().hex}"

    def discard(self, folder: Path) -> None:
        """Remove what came to be at a path."""
        shutil.rmtree(folder, ignore_errors=True)

    async def parts(self, folder: Path) -> AsyncIterator[bytes]:
        """The folder as an archive, part by part; removed at the end, also when the caller hangs up."""
        parts = archived(folder)
        try:
            while part := await anyio.to_thread.run_sync(next, parts, b""):
                yield part
        finally:
            parts.close()
            self.discard(folder)


def archived(folder: Path) -> Generator[bytes, None, None]:
    """The files and folders below `folder` as a tar archive (POSIX.1-2001), part by part; no part is empty."""
    for path in sorted(folder.rglob("*")):
        info = tarfile.TarInfo(path.relative_to(folder).as_posix())
        info.mtime = int(path.stat().st_mtime)
        if path.is_dir():
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            yield info.tobuf(tarfile.PAX_FORMAT)
        elif path.is_file():
            info.size, info.mode = path.stat().st_size, 0o600
            yield info.tobuf(tarfile.PAX_FORMAT)
            with path.open("rb") as file:
                while part := file.read(_PART_BYTES):
                    yield part
            yield from filter(None, [b"\0" * (-info.size % tarfile.BLOCKSIZE)])
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
