"""Digests: SHA-256 everywhere, written `sha256:<hex>`, over bytes or over the canonical JSON of a value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

_CANONICAL = msgspec.json.Encoder(order="deterministic")


def sha256(data: bytes) -> str:
    """The digest of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: the same value gives the same bytes in every process."""
    return _CANONICAL.encode(value)


def content_digest(format_version: int, deciding: Mapping[str, str]) -> str:
    """The name of what decides answers: the digests of the model, schema, outputs and golden rows, by role.

    Times, places, the proof and everything that only describes take no part: packing the same thing twice, in two
    processes, gives the same digest.
    """
    return sha256(canonical_json({"format": format_version, **deciding}))
