"""Where a bundle's bytes come from: a directory, or the same as one `.penstock` zip. Nothing is trusted here.

A name is read once, as a single regular file, bounded by what the caller allows; links, folders, devices, names that
lead elsewhere and files that inflate beyond their stated size are refused by name.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final, Protocol

from penstock.errors import BundleRefused

ARCHIVE_SUFFIX = ".penstock"

# What zipfile raises for archives that were made or changed by hand.
_DAMAGED: Final = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    struct.error,
    ValueError,
    zlib.error,
)


class Source(Protocol):
    """A flat set of named files."""

    def names(self) -> set[str]:
        """The names of all entries, whatever they are."""
        ...

    def read(self, name: str, limit_bytes: int) -> bytes:
        """The bytes of one file. Raises BundleRefused if it is missing, not a plain file, or larger than the limit."""
        ...


def source_of(path: Path) -> Source:
    """The source at `path`. Raises BundleRefused if there is neither a directory nor a `.penstock` file."""
    if path.is_dir():
        return DirectorySource(path)
    if path.is_file() and path.suffix == ARCHIVE_SUFFIX:
        return ArchiveSource(path)
    if path.exists():
        raise BundleRefused(f"{path}: a bundle is a directory or a {ARCHIVE_SUFFIX} file")
    raise BundleRefused(f"{path}: there is nothing at this path")


class DirectorySource:
    """A bundle as a directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> set[str]:
        """The names of all entries, whatever they are."""
        return {path.name for path in self._root.iterdir()}

    def read(self, name: str, limit_bytes: int) -> bytes:
        """The bytes of a regular file, opened without following a link."""
        try:
            handle = os.open(self._root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise BundleRefused(f"{name}: the file is missing") from None
        except OSError as error:
            raise BundleRefused(f"{name}: not a plain file that can be read ({error.strerror})") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise BundleRefused(f"{name}: not a plain file")
        with os.fdopen(handle, "rb") as file:
            return _bounded(file.read(limit_bytes + 1), name, limit_bytes)


class ArchiveSource:
    """A bundle as one zip file, read in place and never extracted."""

    def __init__(self, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                self._entries = archive.infolist()
        except _DAMAGED as error:
            raise BundleRefused(f"{path.name}: not a {ARCHIVE_SUFFIX} file: {error}") from error
        self._path = path
        for entry in self._entries:
            _require_plain(entry)
        if len(self.names()) != len(self._entries):
            raise BundleRefused(f"{path.name}: two entries have the same name")

    def names(self) -> set[str]:
        """The names of all entries."""
        return {entry.filename for entry in self._entries}

    def read(self, name: str, limit_bytes: int) -> bytes:
        """The bytes of one entry, inflated no further than the limit."""
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(name) as file:
                return _bounded(file.read(limit_bytes + 1), name, limit_bytes)
        except KeyError:
            raise BundleRefused(f"{name}: the file is missing") from None
        except _DAMAGED as error:
            raise BundleRefused(f"{name}: cannot be read from the archive: {error}") from error


def write_archive(files: dict[str, bytes], path: Path) -> None:
    """Write `files` as one `.penstock` file; the same files give the same bytes."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name], compress_type=zipfile.ZIP_DEFLATED)


def _require_plain(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if "/" in name or "\\" in name or name in ("", ".", ".."):
        raise BundleRefused(f"{name!r}: leads out of the bundle; a bundle has no folders")
    if entry.is_dir() or kind not in (0, stat.S_IFREG):
        raise BundleRefused(f"{name}: not a plain file")
    if entry.flag_bits & 0x1:
        raise BundleRefused(f"{name}: is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BundleRefused(f"{name}: is packed in another way than deflate")


def _bounded(data: bytes, name: str, limit_bytes: int) -> bytes:
    if len(data) > limit_bytes:
        raise BundleRefused(f"{name}: larger than the {limit_bytes} bytes that are stated for it")
    return data
