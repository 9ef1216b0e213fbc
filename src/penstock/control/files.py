"""Files by name, as the repository keeps them: in a local directory, or on any filesystem of fsspec's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Protocol

from penstock.errors import RepositoryUnavailable

GRACE_S: Final = 3600.0
"""What is younger is never garbage: a publish that is under way has written it, and its event comes last."""


class Files(Protocol):
    """Named files, each written whole or not at all. Thread-safe, and several processes may write at once.

    Every method raises RepositoryUnavailable where the store refuses. Names are made of digests, never by a client.
    """

    def keep(self, name: str, size_bytes: int) -> bool:
        """Whether a file of that size is there and counts as young from now on; else it is to be written."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file durably, in place of one of that name."""
        ...

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""
        ...

    def place(self, name: str, path: Path, *, may_link: bool) -> bool:
        """Put a file at `path`, which does not exist, if it may as a hard link of ours. False if it is not there."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """The names of all files below a folder, with their bytes."""
        ...

    def age_s(self, name: str) -> float | None:
        """For how long a file has been there as it is; None if it is gone, or the store does not say."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...


def unavailable(where: str, doing: str, error: Exception) -> RepositoryUnavailable:
    """What the store's own error means; no password of a URL is shown."""
    shown = re.sub(r"//[^/@\s]*@", "//***@", where)
    said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return RepositoryUnavailable(
        f"the repository {shown} cannot {doing}: {' '.join(said.split())[:300]}; see `repository.url` in the settings"
    )
