"""Files that survive a crash and a power loss: written under another name, brought to the disk, then renamed."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_whole(path: Path, data: bytes, *, draft: Path, mode: int | None = None) -> None:
    """Replace `path` by `data` at once and durably: whoever reads finds the old file or the new one, whole.

    `draft`, on the same filesystem, is the name until then; a crash may leave it behind. `mode` is that of the file;
    None: what the process gives to new files. Raises OSError.
    """
    with draft.open("wb") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make a directory for our eyes only, and its name survive a power loss. Raises OSError."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in `path` survive a power loss. Filesystems that cannot do so (EINVAL) are left at that.

    Raises OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)
