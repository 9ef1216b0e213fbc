"""Several files as one model file."""

from __future__ import annotations

import io
import zipfile

import pytest

from penstock.bundle.parts import read_parts, written_parts
from penstock.errors import BundleRefused


def test_the_same_files_are_the_same_bytes() -> None:
    """Whatever the order they are given in."""
    files = {"b/c": b"2", "a": b"1"}
    assert written_parts(files) == written_parts(dict(reversed(files.items())))
    assert files == read_parts(written_parts(files), "model")


def zipped(name: str, compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr(name, b"x" * 100)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"PK", zipped("../a"), zipped("/a"), zipped("a\\b"), zipped("a//b"), zipped("a", zipfile.ZIP_DEFLATED),
     zipped("a")[:-5]],
)  # fmt: skip
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    """Names that leave it, compression, and broken ends."""
    with pytest.raises(BundleRefused):
        read_parts(data, "model")
