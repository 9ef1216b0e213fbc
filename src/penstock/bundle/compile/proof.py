"""The proof: the original and the candidate answer the same rows, and the differences are counted.

It knows nothing about how the candidate was made. What is sealed in a bundle as `proof.json` is the `Proof`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.compile.adversary import adversarial_rows
from penstock.bundle.compile.compare import TOLERANCE, Comparison, answered, compared, scales_of
from penstock.bundle.compile.rows import count_of, joined, taken
from penstock.bundle.compile.splits import Splits, TreeView
from penstock.bundle.compile.thresholds import Straddled, straddle
from penstock.bundle.loaders.sklearn import SklearnPredictor
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.predictor import Predictor
from penstock.bundle.verdict import Difference, Proof, Thresholds
from penstock.errors import ModelFailed
from penstock.schema import Columns, Schema

MOST_SAMPLE_ROWS = 20_000
HIDDEN = "(hidden)"


class Proven(msgspec.Struct, frozen=True):
    """A proof, the rows beyond the sample that it was made with (some of them become golden rows), and the difference
    that decided against the candidate, with its row in clear: the proof itself is sealed, and hides `pii` fields.
    """

    proof: Proof
    adversarial: Columns
    offence: Difference | None


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

    `estimator` is the fitted one behind `original`: the splits of its trees are read from it, and up to `budget` of
    them straddled. `progress` gets a line of text at each stage. Deterministic. What fails is part of the proof.
    """
    tell = progress or (lambda line: None)
    view = TreeView(SklearnPredictor(estimator, schema, outputs))
    sample = sampled(columns)
    tell(f"straddling up to {min(budget, len(view.splits.feature)):,} of {len(view.splits.feature):,} split thresholds")
    made = adversarial_rows(sample, schema)
    straddled = _straddled(view, sample, schema, budget)
    origins = {"sample": sample, "threshold": straddled.rows, **made}
    total = sum(map(count_of, origins.values()))
    tell(f"comparing the original with the graph on {total:,} rows")
    kept = {name: answered(original, rows) for name, rows in origins.items()}
    scale = scales_of(kept["sample"].outputs)
    found = [compared(candidate, part, origin=name, scale=scale) for name, part in kept.items()]
    thresholds = _met(view, [part.columns for part in kept.values()], straddled)
    proof = _concluded(found, thresholds, scale=scale, sample_rows=count_of(columns))
    proof = msgspec.structs.replace(
        proof,
        rows={name: count_of(part.columns) for name, part in kept.items()},
        refused={name: part.refused for name, part in kept.items() if part.refused},
    )
    adversarial = joined([part.columns for name, part in kept.items() if name != "sample"])
    return Proven(_hidden(proof, schema), adversarial, proof.offence)


def _hidden(proof: Proof, schema: Schema) -> Proof:
    """The proof without the values of personal fields in its rows."""
    personal = {field.name for field in schema.fields if field.pii is not None}
    shown = [
        one and msgspec.structs.replace(one, row={k: HIDDEN if k in personal else v for k, v in one.row.items()})
        for one in (proof.largest, proof.first_flip)
    ]
    # What a library says behind the colon may repeat a value.
    failure = proof.failure.partition(":")[0] if personal and proof.failure else proof.failure
    return msgspec.structs.replace(proof, largest=shown[0], first_flip=shown[1], failure=failure)


def sampled(columns: Columns) -> Columns:
    """At most 20,000 rows of the sample, evenly spaced."""
    rows = count_of(columns)
    if rows <= MOST_SAMPLE_ROWS:
        return columns
    return taken(columns, np.linspace(0, rows - 1, MOST_SAMPLE_ROWS).round().astype(np.int64))


def _straddled(view: TreeView, sample: Columns, schema: Schema, budget: int) -> Straddled:
    nothing = np.zeros(0, np.int64)
    if not len(view.splits.feature):
        return Straddled(taken(sample, nothing), nothing, nothing, nothing)
    try:
        return straddle(view, sample, schema, budget=budget)
    except ModelFailed:
        # The preprocessing refuses every number that the probe tries: the other rows must do.
        return Straddled(taken(sample, nothing), nothing, nothing, nothing)


def _met(view: TreeView, parts: list[Columns], straddled: Straddled) -> Thresholds:
    splits = view.splits
    total = len(splits.feature)
    left, right, tried = (np.zeros(total, bool) for _ in range(3))
    for part in parts:
        if total and count_of(part):
            _mark(splits, view.values(part), left, right)
    met = left & right
    tried[straddled.attempted] = True
    tried[straddled.immovable] = True
    return Thresholds(
        total=total,
        met=int(met.sum()),
        straddled=len(straddled.splits),
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
