"""A loaded version as it is served, and how long it is kept: until it is replaced and its last hold is gone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from penstock.assignment import Split
from penstock.errors import ModelUnavailable
from penstock.routing import Decision
from penstock.runtime.batcher import Batcher
from penstock.runtime.breaker import Breaker
from penstock.runtime.dormant import Dormant
from penstock.runtime.fallback import Fallback
from penstock.runtime.terms import Terms
from penstock.runtime.version import Version


class Served:
    """A version, the queue and the breaker in front of it, and what each protocol needs of it.

    `spoken` is made at a protocol's first call, `spoken_by_arm` at an arm's; `holds` is how many calls use it. Its
    decision stays as it is for as long as it is there: every call is decided and recorded by one. Used on one event
    loop; not thread-safe.
    """

    __slots__ = (
        *("_free", "_is_leaving", "batcher", "breaker", "decided", "decision", "fallback", "holds", "model", "pool"),
        *("split", "spoken", "spoken_by_arm"),
    )

    def __init__(
        self,
        model: Version,
        batcher: Batcher,
        *,
        breaker: Breaker,
        terms: Terms,
        free: Callable[[Served], None],
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self.model = model
        self.batcher = batcher
        self.breaker = breaker
        self.pool = pool
        self.fallback: Fallback | None = None
        self.decision: Decision | None = terms.decision
        self.decided = b"" if terms.decision is None else msgspec.json.encode(terms.decision)
        """Tells answers that were decided otherwise apart."""
        self.split: Split | None = None
        """The experiment of its model."""
        self.spoken: dict[str, Any] = {}
        self.spoken_by_arm: dict[tuple[str, str | None], Any] = {}
        self.holds = 0
        self._is_leaving = False
        self._free = free
        self.take(terms)

    def take(self, terms: Terms) -> None:
        """Take on other bounds and another fallback; the queue and the breaker stay as they are."""
        limits = terms.limits
        self.fallback = terms.fallback
        self.batcher.most_rows = limits.queue_rows
        # A load costs more than a run: the first that fails is the last for a while.
        failures = 1 if isinstance(self.model, Dormant) else limits.breaker_failures
        self.breaker.limit(failures, limits.breaker_open_s)

    def divide(self, split: Split | None) -> None:
        """Take on the experiment of its model, or its end."""
        if self.split != split:
            self.split = split
            self.spoken_by_arm = {}

    def hold(self) -> None:
        """Keep it loaded until `release`: a call uses it."""
        self.holds += 1

    def release(self) -> None:
        """The end of one `hold`."""
        self.holds -= 1
        if self._is_leaving and not self.holds:
            self._free(self)

    def leave(self) -> None:
        """It is served no more: free it after its last hold, or now."""
        self._is_leaving = True
        if not self.holds:
            self._free(self)

    @property
    def is_leaving(self) -> bool:
        """Whether it has been replaced."""
        return self._is_leaving

    def require_open(self) -> None:
        """Raise ModelUnavailable while the breaker refuses, and Overloaded while the queue is full.

        The hot path looks at `breaker.is_open` and `batcher.rows` first, and calls this only then.
        """
        if self.breaker.refuses():
            wait_s = self.breaker.retry_after_s()
            what = _UNLOADED if isinstance(self.model, Dormant) else _BROKEN
            raise ModelUnavailable(what.format(self.model.name, self.model.version, wait_s), wait_s)
        self.batcher.require_room()

    def admit(self, call: object) -> None:
        """As `require_open`, just before the run of `call`: with a half-open breaker it is the one that tries."""
        self.require_open()
        self.breaker.try_with(call)


_BROKEN = "{} version {} has failed again and again and is left alone for a while: try again in {} s"
_UNLOADED = "{} version {} could not be loaded and is left alone for a while: try again in {} s"
