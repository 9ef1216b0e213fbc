"""The circuit breaker of one loaded version: a model that fails again and again is left alone for a while.

Closed, it counts failed runs in a row. Open, nobody asks the model. Half-open, one call tries; its end decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal, TypeAlias

BreakerState: TypeAlias = Literal["closed", "open", "half-open"]


class Breaker:
    """A state machine without a timer: what it is depends on what it was told and on `clock` (seconds).

    It opens at the `failures`th failure in a row (0: never), and `open_s` later lets one call through. `on_change`
    hears whether it is open. Used on one event loop; not thread-safe. The hot path looks at `is_open`, and at `failed`
    (failures in a row) after a success, and calls nothing else while all is well.
    """

    __slots__ = ("_clock", "_most", "_on_change", "_open_s", "_opened_s", "_trial", "failed", "is_open")

    def __init__(
        self,
        failures: int = 10,
        open_s: float = 5.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[bool], None] = lambda is_open: None,
    ) -> None:
        self._most = failures
        self._open_s = open_s
        self._clock = clock
        self._on_change = on_change
        self._opened_s = 0.0
        self._trial: object | None = None  # the call that tries
        self.failed = 0
        self.is_open = False

    @property
    def state(self) -> BreakerState:
        """Half-open is when a call may try, or tries."""
        if not self.is_open:
            return "closed"
        return "open" if self._left_s() > 0 else "half-open"

    def refuses(self) -> bool:
        """Whether a call must not run now: it is open, or half-open with a trial under way."""
        return self.is_open and (self._trial is not None or self._left_s() > 0)

    def retry_after_s(self) -> int:
        """Whole seconds until a call may try, at least 1."""
        return max(1, math.ceil(self._left_s()))

    def limit(self, failures: int, open_s: float) -> None:
        """Open at another number of failures, or for another time, from now on; what it is it stays."""
        self._most = failures
        self._open_s = open_s

    def try_with(self, call: object) -> None:
        """Half-open: `call` is the one that tries. It must be told of by `succeed`, `fail` or `end`."""
        if self.is_open:
            self._trial = call

    def succeed(self) -> None:
        """A run gave an answer: closed, whatever came before."""
        self.failed = 0
        self._trial = None
        if self.is_open:
            self.is_open = False
            self._on_change(False)

    def fail(self, call: object) -> None:
        """The run of `call` failed. One that began before it opened does not keep it open for longer."""
        self.failed += 1
        if self.is_open:
            if self._trial is call:
                self._trial = None
                self._opened_s = self._clock()
        elif self._most and self.failed >= self._most:
            self.is_open = True
            self._opened_s = self._clock()
            self._on_change(True)

    def end(self, call: object) -> None:
        """`call` ended in a way that tells nothing of the model: if it was the trial, another may try."""
        if self._trial is call:
            self._trial = None

    def _left_s(self) -> float:
        return self._opened_s + self._open_s - self._clock()
