"""`Privacy`: what of a call may be kept: whether in clear who it is about, and how much of its rows and answers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

from penstock.audit.pseudonyms import Pseudonyms

Policy: TypeAlias = Literal["full", "features", "none"] | float
"""How much of a call's payload is kept: all, the final features only, nothing, or all of a share of the calls."""

Keeps: TypeAlias = Literal["full", "features", "none"]

_HASHES = 2**32


class Privacy:
    """Of one server; pure, so thread-safe. Without `pseudonyms` keys and client ids are kept in clear."""

    def __init__(self, pseudonyms: Pseudonyms | None = None, policies: Mapping[str, Policy] | None = None) -> None:
        self.pseudonyms = pseudonyms
        self.is_hashed = pseudonyms is not None
        """Whether keys and client ids are kept as pseudonyms."""
        self._policies = dict(policies or {})

    def key(self, key: str | None) -> str | None:
        """What is kept of the key of an entity."""
        return key if key is None or self.pseudonyms is None else self.pseudonyms.of_key(key)

    def client_id(self, client_id: str | None) -> str | None:
        """What is kept of a caller's own id."""
        return client_id if client_id is None or self.pseudonyms is None else self.pseudonyms.of_client_id(client_id)

    def policy(self, model: str | None) -> Policy:
        """The policy for a model's calls; `full` where none is set, and for calls that name no model."""
        return self._policies.get(model, "full") if model is not None else "full"


def keeps(policy: Policy, request_id: str) -> Keeps:
    """What a policy keeps of one call. A share is decided by the CRC-32 of the request id, so anyone can tell later
    which calls were in it, and a larger share has all calls of a smaller one.
    """
    if isinstance(policy, str):
        return policy
    return "full" if zlib.crc32(request_id.encode()) < policy * _HASHES else "none"
