"""What a comparison of two versions says: the values of `--json`, of the saved result and of the page."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from penstock.jobs.taken import Fault, Tally

MOVED_EDGES: Final = (1e-18, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 100.0, 1e4)
"""Between which |Δ| is counted for the picture; below the first one it is 0."""


class Different(msgspec.Struct, frozen=True, kw_only=True):
    """One row that both answered: by how much they differ, both answers, and the features. `difference` is None for a
    row that is named because it is not equal, whatever the size.
    """

    request_id: str
    row: int
    version: int | str | None
    difference: float | None
    champion: dict[str, Any]
    candidate: dict[str, Any]
    features: dict[str, Any]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs that are the same to the last bit, and those that differ by more than `tolerance` (relative; any other
    label counts), the first of them by name.
    """

    bit_for_bit: int
    unequal: int
    tolerance: float
    first: list[Different]


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """|Δ| of the score: the largest over the classes or targets. `histogram` counts between `MOVED_EDGES`. Quantiles
    are exact, or (not `is_exact`) to 0.1 %.
    """

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    most: float
    is_exact: bool
    histogram: list[int]


class Bins(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of both. `psi` is over bins between `deciles` of the champion's; for the picture, counts of both
    between equally wide `edges`.
    """

    psi: float
    deciles: list[float]
    edges: list[float]
    champion: list[int]
    candidate: list[int]


class Latency(msgspec.Struct, frozen=True):
    """The time of a row (µs) in runs of up to `rows` rows and more than half of that, over `timed` runs of each."""

    rows: int
    timed: int
    champion_p50: float
    champion_p95: float
    candidate_p50: float
    candidate_p95: float


class SegmentResult(msgspec.Struct, frozen=True):
    """The rows of one value of a field."""

    name: str
    pairs: int
    flips: int
    moved_mean: float
    moved_p50: float
    moved_p95: float
    moved_most: float


class RowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows that callers had answers for; see `Tally`. `share` of what was asked for was scored."""

    calls: int
    rows: int
    scored: int
    share: float | None
    refused: int
    failed: int
    lacking: int
    masked: dict[str, int]
    missing: dict[str, int]
    without_features: int
    without_answer: int
    by_fallback: int
    filtered: int
    versions: dict[str, int]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All that a comparison says. `matrix` counts champion's label (down) by candidate's (across). `run_us` is the
    candidate's time of a row in the large runs of the job itself.
    """

    pairs: int
    rows: RowCounts
    identity: Identity
    without_number: int
    labels: list[str]
    matrix: list[list[int]]
    flips: int
    disagreement: float | None
    moved: Moved | None
    scores: Bins | None
    latency: list[Latency]
    run_us: float | None
    segments: list[SegmentResult]
    largest: list[Different]
    refusals: dict[str, int]
    failures: dict[str, int]
    faults: list[Fault]


def rows_of(tally: Tally) -> RowCounts:
    """The counts, as they are told."""
    counts = {name: getattr(tally, name) for name in tally.__struct_fields__}
    return RowCounts(**counts, share=tally.share)
