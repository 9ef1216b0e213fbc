"""Which requests count as `slow`: runs above the champion's p95 at the same batch size, without being fooled by bursts.

A stall of the machine makes many requests slow at once, and batches are smaller where traffic is thin. So 100 ms of
a worker give at most one look at each arm, and where there were several requests both arms are looked at or none.
"""

from __future__ import annotations

from typing import Final

import msgspec

from penstock.rollout.counts import MILLION, Tally, add, count
from penstock.rollout.observation import Observation
from penstock.rollout.sketch import Sketch

COLD_BATCHES: Final = 200
WINDOW_S: Final = 0.1
_KNOWN: Final = 100
"""Runs of the champion at a batch size before its p95 says anything."""
_MOST_WORKERS: Final = 256
_EVENLY: Final = MILLION // 2


class Usual(msgspec.Struct):
    """The champion's run times at one batch size; the median and p95 are those of when `due` was last reached."""

    times: Sketch = msgspec.field(default_factory=Sketch)
    median_ms: float = 0.0
    p95_ms: float = 0.0
    due: int = _KNOWN

    @property
    def is_known(self) -> bool:
        """Whether there have been enough runs."""
        return self.due > _KNOWN

    def observe(self, run_ms: float) -> None:
        """Add a run; the quantiles follow each time that there are a twentieth more."""
        self.times.observe(run_ms)
        self.settle()

    def settle(self) -> None:
        """Take the quantiles anew if it is due."""
        if self.times.n >= self.due:
            self.median_ms, self.p95_ms = self.times.quantile(0.5), self.times.quantile(0.95)
            self.due = self.times.n + max(self.times.n // 20, 1)


class Look(msgspec.Struct):
    """One worker's window: its number, its requests, the share, and of each arm whether its first one was slow."""

    window: int
    share: int
    requests: int = 0
    canary: bool | None = None
    champion: bool | None = None


class Slowness(msgspec.Struct):
    """The looks so far (`looks`) and how many were slow (`slow`), by share; `speeds`: the champion's, by batch size.

    A window with one request is a look at share w, as any request. One with several is a pair, each arm's first request
    at even shares, whatever the weights: how many of an arm's *requests* a stall hits depends on how they are batched,
    whether its first one is hit does not. A window with several requests of one arm only compares nothing.
    """

    speeds: dict[int, Usual] = {}
    open: dict[str, Look] = {}
    looks: Tally = {}
    slow: Tally = {}
    cold: int = 0
    last_run: tuple[str, int, float] = ("", 0, 0.0)

    def observe(self, seen: Observation, share: int) -> None:
        """Look at the run that a request was a part of. The first 200 runs of the canary do not count."""
        is_canary = seen.arm == "canary"
        if not share or seen.batch_rows <= 0 or seen.run_ms <= 0 or (is_canary and self._is_cold(seen)):
            return
        size = size_class(seen.batch_rows)
        usual = self.speeds.get(size)
        if usual is not None and usual.is_known:
            self._look(seen, share, seen.run_ms > usual.p95_ms)
        if not is_canary:
            self.speeds.setdefault(size, Usual()).observe(seen.run_ms)

    def usual_ms(self, batch_rows: int) -> float | None:
        """The champion's median at this batch size; None while it is not known."""
        usual = self.speeds.get(size_class(batch_rows))
        return usual.median_ms if usual is not None and usual.is_known else None

    def merge(self, other: Slowness) -> None:
        """Add what another part has seen. Open windows of both are closed first."""
        for part in (self, other):
            for look in part.open.values():
                self._close(look)
        self.open = {}
        add(self.looks, other.looks)
        add(self.slow, other.slow)
        for size, usual in other.speeds.items():
            mine = self.speeds.setdefault(size, Usual())
            mine.times.merge(usual.times)
            mine.settle()
        self.cold += other.cold

    def _is_cold(self, seen: Observation) -> bool:
        if self.cold > COLD_BATCHES:
            return False
        run = (seen.worker, seen.batch_rows, seen.run_ms)
        if run != self.last_run:
            self.last_run, self.cold = run, self.cold + 1
        return self.cold <= COLD_BATCHES

    def _look(self, seen: Observation, share: int, is_slow: bool) -> None:
        window = int(seen.at / WINDOW_S)
        look = self.open.get(seen.worker)
        if look is None or window > look.window:
            if look is not None:
                self._close(look)
            elif len(self.open) >= _MOST_WORKERS:  # workers that are gone: close the one that has waited longest
                self._close(self.open.pop(next(iter(self.open))))
            look = self.open[seen.worker] = Look(window, share)
        look.requests += 1
        if seen.arm == "canary":
            look.canary = is_slow if look.canary is None else look.canary
        else:
            look.champion = is_slow if look.champion is None else look.champion

    def _close(self, look: Look) -> None:
        if look.requests > 1 and (look.canary is None or look.champion is None):
            return
        share = look.share if look.requests == 1 else _EVENLY
        for is_canary, is_slow in ((True, look.canary), (False, look.champion)):
            if is_slow is not None:
                count(self.looks, share, is_canary=is_canary)
                count(self.slow, share, is_canary=is_canary, times=int(is_slow))


def size_class(batch_rows: int) -> int:
    """Batch sizes that are compared: each up to 16 rows by itself, then in steps of an eighth."""
    if batch_rows <= 16:
        return batch_rows
    step = 1 << (batch_rows.bit_length() - 4)
    return -(-batch_rows // step) * step
