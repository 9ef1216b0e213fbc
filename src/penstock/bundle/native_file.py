"""A model in its own library's form: what a bundle holds where there is no graph."""

from __future__ import annotations

import msgspec


class NativeFile(msgspec.Struct, frozen=True):
    """A model file: the key of its loader, its name in a bundle, its bytes."""

    loader: str
    name: str
    data: bytes
