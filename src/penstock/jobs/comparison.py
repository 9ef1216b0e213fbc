"""What two versions said of the same rows, summed up: pairs in, one result out, in bounded memory.

Parts of one comparison merge, and a comparison can be kept as a value (`state`) and taken up again: a job saves it
together with its position in the log, so that every pair counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from penstock.jobs.answers import Layout, differences
from penstock.jobs.distribution import MOST_EXACT, Distribution, Spread, deciles, psi
from penstock.jobs.result import (
    MOVED_EDGES,
    Bins,
    Different,
    Identity,
    Latency,
    Moved,
    Result,
    SegmentResult,
    rows_of,
)
from penstock.jobs.scoring import Pairs, Scoring
from penstock.jobs.taken import Fault, Tally

MOST_SEGMENTS: Final = 50
MOST_REASONS: Final = 50
OTHER: Final = "(other)"
_SEGMENT_EXACT: Final = 4_096
_TIMED_EXACT: Final = 4_096
_QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.999)
_PICTURE_BINS: Final = 20


class SegmentState(msgspec.Struct):
    """A segment so far."""

    pairs: int = 0
    flips: int = 0
    moved: Spread = Spread()


class ComparisonState(msgspec.Struct, frozen=True, kw_only=True):
    """A `Comparison` to keep, as JSON or msgpack."""

    pairs: int = 0
    bitwise: int = 0
    unequal: int = 0
    unlike: int = 0
    run_ms: float = 0.0
    tally: Tally = msgspec.field(default_factory=Tally)
    flips: dict[str, dict[str, int]] = {}
    moved: Spread = Spread()
    champion: Spread = Spread()
    candidate: Spread = Spread()
    segments: dict[str, SegmentState] = {}
    timed: dict[int, tuple[Spread, Spread]] = {}
    largest: list[Different] = []
    first_unequal: list[Different] = []
    refusals: dict[str, int] = {}
    failures: dict[str, int] = {}
    faults: list[Fault] = []


class Comparison:
    """Not thread-safe. `tolerance` is the relative difference up to which numbers count as equal (`unequal` counts the
    others, and pairs of different labels); `largest` is how many differences are kept row by row, `most_exact` how many
    numbers before they are counted in buckets.
    """

    def __init__(
        self,
        state: ComparisonState | None = None,
        *,
        tolerance: float = 1e-12,
        largest: int = 20,
        most_exact: int = MOST_EXACT,
    ) -> None:
        state = state if state is not None else ComparisonState()
        self._tolerance, self._most = tolerance, largest
        self._bitwise, self._unequal, self._unlike = state.bitwise, state.unequal, state.unlike
        self.pairs, self._run_ms = state.pairs, state.run_ms
        self.tally = Tally()
        self.tally.add(state.tally)
        self._flips = {row: dict(cells) for row, cells in state.flips.items()}
        self._moved, self._champion, self._candidate = (
            Distribution(spread, most_exact=most_exact) for spread in (state.moved, state.champion, state.candidate)
        )
        self._segments = {name: _Segment(one) for name, one in state.segments.items()}
        self._timed = {
            rows: (_timing(champion), _timing(candidate)) for rows, (champion, candidate) in state.timed.items()
        }
        self._largest, self._first_unequal = list(state.largest), list(state.first_unequal)
        self._refusals, self._failures = Counter(state.refusals), Counter(state.failures)
        self._faults = list(state.faults)

    def add(self, pairs: Pairs, scoring: Scoring) -> None:
        """Add what `scoring` has made of some records."""
        self.tally.add(pairs.tally)
        self._run_ms += pairs.run_ms
        _count_reasons(self._refusals, pairs.refused)
        _count_reasons(self._failures, pairs.failed)
        self._faults = (self._faults + pairs.refused + pairs.failed)[: self._most]
        if not len(pairs):
            return
        self.pairs += len(pairs)
        layout, champion, candidate = scoring.layout, pairs.champion, pairs.candidate
        moved = differences(champion, candidate)
        self._unlike += int(np.isnan(moved).sum())
        moved = np.nan_to_num(moved, nan=0.0, posinf=0.0)
        flipped = champion.labels != candidate.labels if layout.has_labels else np.zeros(len(pairs), np.bool_)
        self._count_equal(pairs, scoring, flipped)
        if layout.has_labels:
            self._count_flips(layout, pairs)
        if layout.width:
            self._moved.add(moved)
            self._add_scores(layout, pairs)
        self._keep_largest(pairs, scoring, moved if layout.width else flipped.astype(np.float64))
        if pairs.segments is not None:
            self._count_segments(pairs.segments, moved, flipped)

    def time(self, rows: int, champion_ms: float, candidate_ms: float) -> None:
        """Add the times of two runs of `rows` rows each."""
        place = 1 << (rows - 1).bit_length()
        if place not in self._timed:
            self._timed[place] = (_timing(Spread()), _timing(Spread()))
        for times, took_ms in zip(self._timed[place], (champion_ms, candidate_ms), strict=True):
            times.add(np.array([took_ms * 1e3 / rows]))

    def merge(self, other: Comparison) -> None:
        """Add another part; whichever pairs it has are not in this one."""
        self.pairs += other.pairs
        self._bitwise += other._bitwise
        self._unequal += other._unequal
        self._unlike += other._unlike
        self._run_ms += other._run_ms
        self.tally.add(other.tally)
        for before, row in other._flips.items():
            mine = self._flips.setdefault(before, {})
            for after, times in row.items():
                mine[after] = mine.get(after, 0) + times
        for mine_one, theirs in zip(self._numbers(), other._numbers(), strict=True):
            mine_one.merge(theirs)
        for name, segment in other._segments.items():
            self._segment(name).merge(segment)
        for rows, (one, another) in other._timed.items():
            held = self._timed.setdefault(rows, (_timing(Spread()), _timing(Spread())))
            held[0].merge(one)
            held[1].merge(another)
        self._largest = _ranked(self._largest + other._largest, self._most)
        self._first_unequal = (self._first_unequal + other._first_unequal)[: self._most]
        _count(self._refusals, other._refusals)
        _count(self._failures, other._failures)
        self._faults = (self._faults + other._faults)[: self._most]

    def state(self) -> ComparisonState:
        """All of it as a value to keep."""
        return ComparisonState(
            pairs=self.pairs,
            bitwise=self._bitwise,
            unequal=self._unequal,
            unlike=self._unlike,
            run_ms=self._run_ms,
            tally=self.tally,
            flips=self._flips,
            moved=self._moved.spread(),
            champion=self._champion.spread(),
            candidate=self._candidate.spread(),
            segments={name: one.state() for name, one in self._segments.items()},
            timed={rows: (one.spread(), other.spread()) for rows, (one, other) in self._timed.items()},
            largest=self._largest,
            first_unequal=self._first_unequal,
            refusals=dict(self._refusals),
            failures=dict(self._failures),
            faults=self._faults,
        )

    def result(self) -> Result:
        """What the pairs say."""
        flips = sum(times for row, cells in self._flips.items() for name, times in cells.items() if name != row)
        labels = sorted({*self._flips, *(name for cells in self._flips.values() for name in cells)})
        return Result(
            pairs=self.pairs,
            rows=rows_of(self.tally),
            identity=Identity(
                bit_for_bit=self._bitwise, unequal=self._unequal, tolerance=self._tolerance, first=self._first_unequal
            ),
            without_number=self._unlike,
            labels=labels,
            matrix=[[self._flips.get(row, {}).get(name, 0) for name in labels] for row in labels],
            flips=flips,
            disagreement=flips / self.pairs if self.pairs and labels else None,
            moved=self._moved_result(),
            scores=self._bins(),
            latency=[
                Latency(rows, one.count, *one.quantiles([0.5, 0.95]), *other.quantiles([0.5, 0.95]))
                for rows, (one, other) in sorted(self._timed.items())
            ],
            run_us=self._run_ms * 1e3 / self.pairs if self.pairs else None,
            segments=[
                one.result(name) for name, one in sorted(self._segments.items(), key=lambda item: -item[1].pairs)
            ],
            largest=self._largest,
            refusals=dict(self._refusals.most_common()),
            failures=dict(self._failures.most_common()),
            faults=self._faults,
        )

    def _numbers(self) -> tuple[Distribution, Distribution, Distribution]:
        return self._moved, self._champion, self._candidate

    def _count_equal(self, pairs: Pairs, scoring: Scoring, flipped: np.ndarray) -> None:
        one, other = pairs.champion.numbers, pairs.candidate.numbers
        same = ~flipped & (one == other).all(axis=1)
        self._bitwise += int(same.sum())
        if same.all():
            return
        scale = np.maximum(np.abs(one), np.abs(other))
        near = ~flipped & (np.abs(one - other) <= self._tolerance * scale).all(axis=1)
        places = np.flatnonzero(~near)
        self._unequal += len(places)
        for place in places[: self._most - len(self._first_unequal)].tolist():
            self._first_unequal.append(_different(pairs, scoring, place, None))

    def _count_flips(self, layout: Layout, pairs: Pairs) -> None:
        width = len(layout.labels)
        codes = np.bincount(pairs.champion.labels * width + pairs.candidate.labels, minlength=width * width)
        for code in np.flatnonzero(codes).tolist():
            before, after = layout.labels[code // width], layout.labels[code % width]
            row = self._flips.setdefault(before, {})
            row[after] = row.get(after, 0) + int(codes[code])

    def _add_scores(self, layout: Layout, pairs: Pairs) -> None:
        one, other = layout.score_of(pairs.champion.numbers), layout.score_of(pairs.candidate.numbers)
        if one is not None and other is not None:
            both = np.isfinite(one) & np.isfinite(other)
            self._champion.add(one if both.all() else one[both])
            self._candidate.add(other if both.all() else other[both])

    def _keep_largest(self, pairs: Pairs, scoring: Scoring, sizes: np.ndarray) -> None:
        least = self._largest[-1].difference or 0.0 if len(self._largest) >= self._most else 0.0
        places = np.flatnonzero(sizes > least)
        if len(places) > self._most:
            places = places[np.argpartition(-sizes[places], self._most - 1)[: self._most]]
        found = [_different(pairs, scoring, place, float(sizes[place])) for place in places.tolist()]
        if found:
            self._largest = _ranked(self._largest + found, self._most)

    def _count_segments(self, names: Sequence[str], moved: np.ndarray, flipped: np.ndarray) -> None:
        groups: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            groups.setdefault(name, []).append(place)
        for name, places in groups.items():
            self._segment(name).add(moved[places], int(flipped[places].sum()))

    def _segment(self, name: str) -> _Segment:
        if name not in self._segments and len(self._segments) >= MOST_SEGMENTS:
            name = OTHER
        return self._segments.setdefault(name, _Segment(SegmentState()))

    def _moved_result(self) -> Moved | None:
        if not self._moved.count:
            return None
        moved = self._moved
        p50, p90, p95, p99, p999 = moved.quantiles(_QUANTILES)
        return Moved(
            mean=moved.mean,
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            p999=p999,
            most=moved.most,
            is_exact=moved.is_exact,
            histogram=moved.histogram(MOVED_EDGES),
        )

    def _bins(self) -> Bins | None:
        """The scores of both, in bins of the champion's."""
        one, other = self._champion, self._candidate
        if not one.count:
            return None
        tenths = deciles(one)
        low, high = min(one.least, other.least), max(one.most, other.most)
        edges = np.linspace(low, high, _PICTURE_BINS + 1).tolist() if high > low else [low]
        return Bins(
            psi=psi(one.histogram(tenths), other.histogram(tenths)),
            deciles=tenths,
            edges=edges,
            champion=one.histogram(edges[1:-1]),
            candidate=other.histogram(edges[1:-1]),
        )


class _Segment:
    """The rows of one value of a field."""

    def __init__(self, state: SegmentState) -> None:
        self.pairs, self._flips = state.pairs, state.flips
        self._moved = Distribution(state.moved, most_exact=_SEGMENT_EXACT)

    def add(self, moved: np.ndarray, flips: int) -> None:
        self.pairs += len(moved)
        self._flips += flips
        self._moved.add(moved)

    def merge(self, other: _Segment) -> None:
        self.pairs += other.pairs
        self._flips += other._flips
        self._moved.merge(other._moved)

    def state(self) -> SegmentState:
        return SegmentState(self.pairs, self._flips, self._moved.spread())

    def result(self, name: str) -> SegmentResult:
        p50, p95 = self._moved.quantiles([0.5, 0.95])
        return SegmentResult(name, self.pairs, self._flips, self._moved.mean, p50, p95, self._moved.most)


def _timing(spread: Spread) -> Distribution:
    return Distribution(spread, most_exact=_TIMED_EXACT)


def _different(pairs: Pairs, scoring: Scoring, place: int, difference: float | None) -> Different:
    call = pairs.calls[place]
    return Different(
        request_id=call.request_id,
        row=pairs.places[place],
        version=call.version,
        difference=difference,
        champion=scoring.layout.said(pairs.champion, place),
        candidate=scoring.layout.said(pairs.candidate, place),
        features=scoring.features(pairs.rows[place]),
    )


def _ranked(found: Iterable[Different], most: int) -> list[Different]:
    return sorted(found, key=lambda one: (-(one.difference or 0.0), one.request_id, one.row))[:most]


def _count_reasons(reasons: Counter[str], faults: Sequence[Fault]) -> None:
    _count(reasons, Counter(fault.why for fault in faults))


def _count(reasons: Counter[str], more: Counter[str]) -> None:
    """Add counts of reasons; of many different ones, the rest as one."""
    for why, times in more.items():
        reasons[why if why in reasons or len(reasons) < MOST_REASONS else OTHER] += times
