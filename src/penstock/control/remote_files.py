"""The repository's files on a filesystem of fsspec's (S3 and its like, memory for tests): the only home of fsspec."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import fsspec

from penstock.control.files import GRACE_S, unavailable
from penstock.errors import MissingExtra, SettingsError

_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory"})
"""Where a written file appears at its end and whole, and there are no folders to make."""

_S3: Final = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 3}}}


class RemoteFiles:
    """Files below a URL. See `Files`. Connects at the first use.

    Credentials and endpoint are those of the filesystem's own library (for S3 `AWS_…`). Raises SettingsError for a
    protocol that fsspec does not know, and MissingExtra where its library is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._protocol = url.partition("://")[0]
        try:
            kind = fsspec.get_filesystem_class(self._protocol)
        except ValueError as error:
            raise SettingsError(
                f"Expected a directory or a URL that fsspec knows, got {url!r} - at `repository.url`: {error}"
            ) from error
        except ImportError as error:
            raise MissingExtra("s3fs", "s3", f"a repository at {self._protocol}://") from error
        self._root = str(kind._strip_protocol(url)).rstrip("/")
        self._opened: Any = None
        self._lock = threading.Lock()

    def keep(self, name: str, size_bytes: int) -> bool:
        """Whether a file of that size is there. One that would soon be old enough to be garbage is written again."""
        with self._told(f"look for {name}"):
            try:
                is_there = self._fs.info(self._path(name))["size"] == size_bytes
            except FileNotFoundError:
                return False
        age_s = self.age_s(name) if is_there else None
        return age_s is not None and age_s < GRACE_S / 2

    def write(self, name: str, data: bytes) -> None:
        """Write a file; under another name first where one that is being written would be seen."""
        with self._told(f"write {name}"):
            path = self._path(name)
            if self._protocol in _WHOLE:
                self._fs.pipe_file(path, data)
                return
            draft = self._path(f"partial/{secrets.token_hex(8)}")
            for place in (draft, path):
                self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
            try:
                self._fs.pipe_file(draft, data)
                self._fs.mv(draft, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    self._fs.rm_file(draft)
                raise

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""
        with self._told(f"read {name}"):
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def place(self, name: str, path: Path, *, may_link: bool) -> bool:
        """Fetch a file to `path`. False if it is not there."""
        with self._told(f"give {name}"):
            try:
                self._fs.get_file(self._path(name), str(path))
            except FileNotFoundError:
                return False
        return True

    def sizes(self, folder: str) -> dict[str, int]:
        """All files below a folder, with their bytes."""
        with self._told(f"list {folder}"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._path(folder), detail=True)
            except FileNotFoundError:
                return {}
        return {str(path)[len(self._root) + 1 :]: int(info["size"]) for path, info in found.items()}

    def age_s(self, name: str) -> float | None:
        """Seconds since it was written, by the store's clock."""
        with self._told(f"look for {name}"):
            try:
                self._fs.invalidate_cache()
                at: datetime = self._fs.modified(self._path(name))
            except (FileNotFoundError, NotImplementedError):
                return None
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        return (datetime.now(UTC) - at).total_seconds()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._told(f"remove {name}"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    @property
    def _fs(self) -> Any:
        with self._lock:
            if self._opened is None:
                options: dict[str, Any] = _S3 if self._protocol in ("s3", "s3a") else {}
                self._opened = fsspec.filesystem(self._protocol, skip_instance_cache=True, **options)
            return self._opened

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the edge of fsspec: whatever the library below it raises
            raise unavailable(self._url, doing, error) from error
