"""Which loaded versions are let go when they take more memory than they may: a pure choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

UNUSED_S: Final = 60.0
"""A lazy version that an alias names is let go only after this long without a run, so that two do not take turns."""


class Resident(msgspec.Struct, frozen=True):
    """A loaded version: what it takes, when it ran last (seconds of a monotonic clock), and what refers to it.

    `is_named`: by an alias or a fallback.
    """

    key: tuple[str, int]
    memory_bytes: int
    ran_s: float
    is_named: bool
    is_lazy: bool


def let_go(residents: Sequence[Resident], memory_bytes: int, now_s: float) -> list[tuple[str, int]]:
    """Those to let go until the others take at most `memory_bytes`: first those that nothing names, then lazy ones that
    have not been used for `UNUSED_S`; of each the least recently used first.
    """
    taken_bytes = sum(resident.memory_bytes for resident in residents)
    unnamed = [resident for resident in residents if not resident.is_named]
    unused = [
        resident
        for resident in residents
        if resident.is_named and resident.is_lazy and now_s - resident.ran_s >= UNUSED_S
    ]
    gone: list[tuple[str, int]] = []
    for candidates in (unnamed, unused):
        for resident in sorted(candidates, key=lambda each: each.ran_s):
            if taken_bytes <= memory_bytes:
                return gone
            gone.append(resident.key)
            taken_bytes -= resident.memory_bytes
    return gone
