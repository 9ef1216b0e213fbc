"""The proof: the original and the candidate answer the same rows, and the differences are counted.

It knows nothing about how the candidate was made. What is sealed in a bundle as `proof.json` is the `Proof`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.compile.adversary import adversarial_rows
from penstock.bundle.compile.compare import TOLERANCE, Comparison, Difference, answered, compared, scales_of
from penstock.bundle.compile.rows import count_of, joined, taken
from penstock.bundle.compile.splits import Splits, TreeView
from penstock.bundle.compile.thresholds import straddle
from penstock.bundle.loaders.sklearn import SklearnPredictor
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.predictor import Predictor
from penstock.errors import ModelFailed
from penstock.schema import Columns, Schema


MOST_SAMPLE_ROWS = 20_000


class Thresholds(msgspec.Struct, frozen=True):
    """How the proof's rows meet the distinct split thresholds of the original's trees.

    - `met`: some row went left and some row went right.
    - `straddled`: two rows that differ in one raw value, by one step of that field's numbers, went different ways.
    - `unreachable`: tried, and no row that the schema lets through goes one of the ways.
    - `out_of_budget`: neither met nor tried.
    """

    total: int = 0
    met: int = 0
    straddled: int = 0
    unreachable: int = 0
    out_of_budget: int = 0


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the comparison of the original with the candidate found.

    - `rows`: rows compared, by origin (sample, threshold, missing, category, unknown, extreme).
    - `sample_rows`: the rows of the whole sample; at most 20,000 of them, evenly spaced, are compared.
    - `refused`: rows that the original itself refuses (it raised, or answered a non-finite number), by origin.
    - `tolerance`: on probabilities absolute; on values relative to the larger of the value and `value_scale`.
    - `largest`: the largest difference, in units of the tolerance's meaning, with its row; None when all are equal.
    - `flips`: rows whose label differs; `first_flip` is the first of them.
    - `wrong`: rows with a difference above the tolerance, or a flip; `failure` is what the candidate raised, if it did.
    """

    rows: dict[str, int]
    sample_rows: int
    refused: dict[str, int]
    thresholds: Thresholds
    tolerance: float
    value_scale: float
    largest_difference: float
    largest: Difference | None = None
    flips: int = 0
    first_flip: Difference | None = None
    wrong: int = 0
    failure: str | None = None
    is_exact: bool = False

    @property
    def offence(self) -> Difference | None:
        """The row that decided against the candidate: the first flip, else the largest difference."""
        return None if self.is_exact else self.first_flip or self.largest


class Proven(msgspec.Struct, frozen=True):
    """A proof, and the rows beyond the sample that it was made with (some of them become golden rows)."""

    proof: Proof
    adversarial: Columns


def prove(
    original: Predictor,
    candidate: Predictor,
    *,
    estimator: Any,
    schema: Schema,
    outputs: OutputSpec,
    columns: Columns,
    budget: int = 2000,
    progress: Callable[[str], None] | None = None,
) -> Proven:
    """Compare `candidate` with `original` on the sample's rows (`columns`) and on rows made against it.

    `estimator` is the fitted one behind `original`: the splits of its trees are read from it, and up to `budget` of them
    straddled. `progress` gets a line of text at each stage. Deterministic. What fails is part of the proof.
    """
    tell = progress or (lambda line: None)
    view = TreeView(SklearnPredictor(estimator, schema, outputs))
    sample = sampled(columns)
    tell(f"straddling up to {min(budget, len(view.splits.feature)):,} of {len(view.splits.feature):,} split thresholds")
    made = adversarial_rows(sample, schema)
    straddled = _straddled(view, sample, schema, budget)
    origins = {"sample": sample, "threshold": straddled[0], **made}
    total = sum(map(count_of, origins.values()))
    tell(f"comparing the original with the graph on {total:,} rows")
    kept = {name: answered(original, rows) for name, rows in origins.items()}
    scale = scales_of(kept["sample"].outputs)
    found = [compared(candidate, part, origin=name, scale=scale) for name, part in kept.items()]
    thresholds = _met(view, [part.columns for part in kept.values()], straddled[1], straddled[2])
    proof = _concluded(found, thresholds, scale=scale, sample_rows=count_of(columns))
    proof = msgspec.structs.replace(
        proof,
        rows={name: count_of(part.columns) for name, part in kept.items()},
        refused={name: part.refused for name, part in kept.items() if part.refused},
    )
    return Proven(proof, joined([part.columns for name, part in kept.items() if name != "sample"]))


def sampled(columns: Columns) -> Columns:
    """At most 20,000 rows of the sample, evenly spaced."""
    rows = count_of(columns)
    if rows <= MOST_SAMPLE_ROWS:
        return columns
    return taken(columns, np.linspace(0, rows - 1, MOST_SAMPLE_ROWS).round().astype(np.int64))


def _straddled(view: TreeView, sample: Columns, schema: Schema, budget: int) -> tuple[Columns, np.ndarray, np.ndarray]:
    nothing = np.zeros(0, np.int64)
    if not len(view.splits.feature) or budget < 1:
        return taken(sample, nothing), nothing, nothing
    try:
        found = straddle(view, sample, schema, budget=budget)
    except ModelFailed:
        # The preprocessing refuses numbers that the probe tries: the other rows must do.
        return taken(sample, nothing), nothing, nothing
    return found.rows, found.splits, found.attempted


def _met(view: TreeView, parts: list[Columns], straddled: np.ndarray, attempted: np.ndarray) -> Thresholds:
    splits = view.splits
    total = len(splits.feature)
    if not total:
        return Thresholds()
    left, right = np.zeros(total, bool), np.zeros(total, bool)
    for part in parts:
        if count_of(part):
            _mark(splits, view.values(part), left, right)
    met = left & right
    tried = np.zeros(total, bool)
    tried[attempted] = True
    return Thresholds(
        total=total,
        met=int(met.sum()),
        straddled=len(straddled),
        unreachable=int((tried & ~met).sum()),
        out_of_budget=int((~tried & ~met).sum()),
    )


def _mark(splits: Splits, seen: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Notes which splits some row passes on the left, and on the right: the smallest and largest value decide."""
    for feature in np.unique(splits.feature):
        known = seen[:, feature][~np.isnan(seen[:, feature])]
        if not len(known):
            continue
        here = np.flatnonzero(splits.feature == feature)
        left[here] |= splits.goes_left(np.full(len(here), known.min()), here)
        right[here] |= ~splits.goes_left(np.full(len(here), known.max()), here)


def _concluded(found: list[Comparison], thresholds: Thresholds, *, scale: float, sample_rows: int) -> Proof:
    worst = max((part.largest for part in found if part.largest), key=lambda one: one.difference, default=None)
    wrong = sum(part.wrong for part in found)
    failure = next((part.failure for part in found if part.failure), None)
    return Proof(
        rows={},
        sample_rows=sample_rows,
        refused={},
        thresholds=thresholds,
        tolerance=TOLERANCE,
        value_scale=scale,
        largest_difference=worst.difference if worst else 0.0,
        largest=worst,
        flips=sum(part.flips for part in found),
        first_flip=next((part.first_flip for part in found if part.first_flip), None),
        wrong=wrong,
        failure=failure,
        is_exact=wrong == 0 and failure is None,
    )
