"""Request ids: UUID version 7 (RFC 9562), made for the rate of the hot path. Each worker has one `RequestIds`."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

_NODE_BITS = 48
_NODE_END = 1 << _NODE_BITS
_NODE_LEAST = 1 << 44  # twelve hexadecimal digits, without filling up
_STEP_BITS = 24
_SEED_BYTES = 16
_POOL_BYTES = 128 * _SEED_BYTES  # a system call for as many milliseconds


class RequestIds:
    """Makes ids that sort by time of making, within one process strictly, also when the clock jumps back.

    Layout (RFC 9562, section 5.7, method 3 of 6.2): 48 bits of Unix milliseconds; 26 random bits, drawn anew from the
    operating system for each millisecond; a 48-bit counter that starts at random, low enough, and goes on by a
    random step of up to 2**24. When the clock stands or jumps back, the last millisecond is kept and the counter goes
    on; when the counter is used up, the millisecond is advanced. After a fork the child draws anew. Not thread-safe.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._steps = random.Random(os.urandom(32))
        self._bits = self._steps.getrandbits
        self._ms = -1
        self.at = datetime.fromtimestamp(0, UTC)
        """When the last id was made, by the clock, to the millisecond."""
        self._node = _NODE_END
        self._prefix = ""
        self._random = b""
        self._used = 0
        os.register_at_fork(after_in_child=self._forget)

    def next(self) -> str:
        """A new id in the canonical form of 36 characters."""
        ms = self._clock_ns() // 1_000_000
        if ms != self._ms:
            self._turn(ms)
        node = self._node = self._node + 1 + self._bits(_STEP_BITS)
        if node >= _NODE_END:
            self._draw(self._ms + 1)
        return self._prefix + hex(self._node)[2:]

    def _turn(self, ms: int) -> None:
        """Another millisecond: the next one, or one that was before and is only noted."""
        self.at = datetime.fromtimestamp(ms / 1e3, UTC)
        if ms > self._ms:
            self._draw(ms)

    def _draw(self, ms: int) -> None:
        """Begin the millisecond `ms` with fresh random bits."""
        if self._used >= len(self._random):
            self._random, self._used = os.urandom(_POOL_BYTES), 0
        seed = int.from_bytes(self._random[self._used : self._used + _SEED_BYTES])
        self._used += _SEED_BYTES
        self._ms = ms
        self._node = _NODE_LEAST + (seed & (_NODE_END // 2 - 1))
        rand_a = (seed >> 64) & 0xFFF
        rand_b = (seed >> 80) & 0x3FFF
        time_hex = f"{ms & 0xFFFF_FFFF_FFFF:012x}"
        self._prefix = f"{time_hex[:8]}-{time_hex[8:]}-7{rand_a:03x}-{0x8000 | rand_b:04x}-"

    def _forget(self) -> None:
        """In a child after a fork: nothing of what the parent drew may be used again."""
        self._steps.seed(os.urandom(32))
        self._random = b""
        self._node = _NODE_END
