"""Who was seen before, in bounded memory: events that count once a caller, and callers that count once."""

from __future__ import annotations

from typing import Final

import msgspec

from penstock.rollout.counts import Tally, add, count, take, totals

MOST_CALLERS: Final = 4_096
"""Of one guardrail's events, the callers that are remembered before every second one is left out."""

_BITS: Final = 20
_PROBES: Final = 3
_MASK: Final = (1 << _BITS) - 1


class OnceEach(msgspec.Struct):
    """Events of one guardrail: all (`every`), and one a caller over the life of the experiment (`counted`).

    Callers without a key count each time. When more than `MOST_CALLERS` are remembered, every second one, by the hash,
    is left out *from then on* (`thinned` times so far): their events so far stay counted, no further one of theirs is,
    and whether somebody is left out has nothing to do with the arm. So a guardrail never falls silent and never counts
    twice; it learns half as fast.
    """

    every: Tally = {}
    counted: Tally = {}
    callers: dict[int, tuple[float, int, bool]] = {}
    thinned: int = 0

    def observe(self, share: int, key_hash: int | None, at: float, *, is_canary: bool) -> None:
        """Add an event at `at` (seconds), of a caller by the hash of its key."""
        count(self.every, share, is_canary=is_canary)
        if key_hash is None:
            count(self.counted, share, is_canary=is_canary)
        elif share and not self._is_left_out(key_hash):
            known = self.callers.get(key_hash)
            event = (at, share, is_canary)
            if known is not None and known <= event:
                return
            self.callers[key_hash] = event
            count(self.counted, share, is_canary=is_canary)
            if known is not None:
                take(self.counted, known[1], is_canary=known[2])
            self._thin()

    def merge(self, other: OnceEach) -> None:
        """Add what another part has seen; a caller that both know counts once, while neither has left it out."""
        add(self.every, other.every)
        add(self.counted, other.counted)
        for key_hash, event in other.callers.items():
            known = self.callers.get(key_hash, event)
            if key_hash in self.callers:
                _, share, is_canary = max(known, event)
                take(self.counted, share, is_canary=is_canary)
            self.callers[key_hash] = min(known, event)
        self.thinned = max(self.thinned, other.thinned)
        self._forget()
        self._thin()

    def _is_left_out(self, key_hash: int) -> bool:
        return bool(key_hash & ((1 << self.thinned) - 1))

    def _thin(self) -> None:
        while len(self.callers) > MOST_CALLERS and self.thinned < 62:
            self.thinned += 1
            self._forget()

    def _forget(self) -> None:
        for key_hash in [key_hash for key_hash in self.callers if self._is_left_out(key_hash)]:
            del self.callers[key_hash]

    def totals(self) -> tuple[int, int]:
        """All events: of the canary, of the champion."""
        return totals(self.every)


class Callers(msgspec.Struct):
    """Which callers came before: a Bloom filter of 128 KiB, made when the first one comes.

    It may take a new caller for a known one (1.5 % of them at 100,000 callers, 19 % at 300,000), never the reverse; a
    caller so missed is missed whatever its arm. Source: Bloom 1970.
    """

    bits: bytearray = bytearray()

    def is_first(self, key_hash: int) -> bool:
        """Whether the caller was not seen before; it is from now on."""
        if not self.bits:
            self.bits = bytearray((1 << _BITS) // 8)
        is_first = False
        for probe in range(_PROBES):
            place = key_hash >> (_BITS * probe) & _MASK
            if not self.bits[place >> 3] >> (place & 7) & 1:
                is_first = True
                self.bits[place >> 3] |= 1 << (place & 7)
        return is_first

    def merge(self, other: Callers) -> None:
        """Add what another part has seen."""
        if not self.bits:
            self.bits = bytearray(other.bits)
        elif other.bits:
            joint = int.from_bytes(self.bits, "little") | int.from_bytes(other.bits, "little")
            self.bits = bytearray(joint.to_bytes(len(self.bits), "little"))
