"""Several files as one model file: a zip without compression, times or order of its own, read within limits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from penstock.errors import BundleRefused

_MOST_FILES = 4096
_MOST_BYTES = 8 << 30
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


def written_parts(files: Mapping[str, bytes]) -> bytes:
    """The same bytes for the same files, in every process."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), files[name])
    return out.getvalue()


def read_parts(data: bytes, kind: str) -> dict[str, bytes]:
    """The files of `written_parts`, of a model file `kind`.

    Raises BundleRefused for what is no such zip, for names that leave it or stand twice, and beyond the limits.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _require_plain(infos, kind)
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError, NotImplementedError) as error:
        raise BundleRefused(f"{kind}: not a whole zip: {error}") from error


def _require_plain(infos: list[zipfile.ZipInfo], kind: str) -> None:
    names = [info.filename for info in infos]
    if len(names) > _MOST_FILES or sum(info.file_size for info in infos) > _MOST_BYTES:
        raise BundleRefused(f"{kind}: more than {_MOST_FILES} files or {_MOST_BYTES} bytes inside")
    if len(set(names)) != len(names):
        raise BundleRefused(f"{kind}: a name stands twice")
    for info in infos:
        parts = info.filename.split("/")
        if info.filename.startswith("/") or "\\" in info.filename or any(part in ("", ".", "..") for part in parts):
            raise BundleRefused(f"{kind}: {info.filename!r} is no name of a file inside it")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise BundleRefused(f"{kind}: {info.filename!r} is compressed or encrypted; expected plain bytes")
