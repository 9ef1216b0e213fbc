"""A shadow beside its champion: what two versions said of the same requests. Needs far fewer than two arms do."""

from __future__ import annotations

from math import sqrt
from typing import Final, TypeAlias

import msgspec

from penstock.rollout.sketch import Sketch

Label: TypeAlias = bool | int | str
MOST_LABELS: Final = 50
_OTHER: Final = "(other)"


class Pair(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, answered by the champion and, unseen, by the shadow; fields are (champion, shadow).

    `scores` and `labels` are None where there are none, or where one failed. `run_ms` of runs of `batch_rows` rows.
    """

    labels: tuple[Label, Label] | None = None
    scores: tuple[float, float] | None = None
    failed: tuple[bool, bool] = (False, False)
    batch_rows: tuple[int, int] = (0, 0)
    run_ms: tuple[float, float] = (0.0, 0.0)


class PairedReading(msgspec.Struct, frozen=True, kw_only=True):
    """What the pairs say.

    - `disagreement`: the share of labelled pairs with different labels, in `lower` to `upper` (Wilson, 95 %, for one
      look: a shadow harms nobody, and nothing aborts by it).
    - `moved_p50`, `moved_p95`, `moved_p99`, `moved_most`: of the differences of scores without their sign, to 5 %.
    - `flips`: how often (champion's label, shadow's label), only where they differ, the most frequent first.
    - `run_ratio_p50`, `run_ratio_p95`: the shadow's run time over the champion's, over `timed` pairs of equal batch
      size; None without any.
    """

    pairs: int
    failed: tuple[int, int]
    labelled: int
    disagreement: float
    lower: float
    upper: float
    moved_p50: float
    moved_p95: float
    moved_p99: float
    moved_most: float
    flips: tuple[tuple[str, str, int], ...]
    timed: int
    run_ratio_p50: float | None
    run_ratio_p95: float | None


class Paired(msgspec.Struct):
    """Counts of pairs, in bounded memory: flips between 50 labels, the rest as "(other)". Merges by addition. Not
    thread-safe.
    """

    pairs: int = 0
    champion_failed: int = 0
    shadow_failed: int = 0
    labelled: int = 0
    flipped: int = 0
    flips: dict[str, dict[str, int]] = {}
    moved: Sketch = msgspec.field(default_factory=Sketch)
    most: float = 0.0
    run_ratio: Sketch = msgspec.field(default_factory=Sketch)

    def observe(self, pair: Pair) -> None:
        """Add one pair."""
        self.pairs += 1
        self.champion_failed += pair.failed[0]
        self.shadow_failed += pair.failed[1]
        if pair.labels is not None:
            self.labelled += 1
            if pair.labels[0] != pair.labels[1]:
                self.flipped += 1
                self._flip(str(pair.labels[0]), str(pair.labels[1]), 1)
        if pair.scores is not None:
            moved = abs(pair.scores[1] - pair.scores[0])
            if moved == moved:  # NaN beside NaN, or beside a number: no distance
                self.moved.observe(min(moved, 1e300))
                self.most = max(self.most, min(moved, 1e300))
        if pair.batch_rows[0] == pair.batch_rows[1] > 0 and min(pair.run_ms) > 0:
            self.run_ratio.observe(pair.run_ms[1] / pair.run_ms[0])

    def merge(self, other: Paired) -> None:
        """Add what another part has seen."""
        self.pairs += other.pairs
        self.champion_failed += other.champion_failed
        self.shadow_failed += other.shadow_failed
        self.labelled += other.labelled
        self.flipped += other.flipped
        for before, row in other.flips.items():
            for after, times in row.items():
                self._flip(before, after, times)
        self.moved.merge(other.moved)
        self.most = max(self.most, other.most)
        self.run_ratio.merge(other.run_ratio)

    def reading(self) -> PairedReading:
        """All of it, as numbers."""
        lower, upper = wilson(self.flipped, self.labelled)
        flips = [(before, after, times) for before, row in self.flips.items() for after, times in row.items()]
        timed = self.run_ratio.n
        return PairedReading(
            pairs=self.pairs,
            failed=(self.champion_failed, self.shadow_failed),
            labelled=self.labelled,
            disagreement=self.flipped / self.labelled if self.labelled else 0.0,
            lower=lower,
            upper=upper,
            moved_p50=self.moved.quantile(0.5),
            moved_p95=self.moved.quantile(0.95),
            moved_p99=self.moved.quantile(0.99),
            moved_most=self.most,
            flips=tuple(sorted(flips, key=lambda flip: (-flip[2], flip[:2]))),
            timed=timed,
            run_ratio_p50=self.run_ratio.quantile(0.5) if timed else None,
            run_ratio_p95=self.run_ratio.quantile(0.95) if timed else None,
        )

    def _flip(self, before: str, after: str, times: int) -> None:
        row = self.flips.get(before)
        if row is None:
            before = before if len(self.flips) < MOST_LABELS else _OTHER
            row = self.flips.setdefault(before, {})
        after = after if after in row or len(row) < MOST_LABELS else _OTHER
        row[after] = row.get(after, 0) + times


def wilson(times: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of a share at one look. Source: Wilson 1927."""
    if not of:
        return 0.0, 1.0
    share, square = times / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    half = z * sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
