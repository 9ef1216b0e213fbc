"""Size, speed, loss and distance: the figures by which a compressed model is judged."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from penstock.bundle.compile.compare import answered
from penstock.bundle.compile.rows import count_of, taken
from penstock.bundle.compression.record import Distance, Plan
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.bundle.predictor import Predictor
from penstock.errors import PackRefused
from penstock.schema import Columns

MANY_ROWS = 64
_ROUNDS, _LONGEST_S = 15, 0.2
_SMALLER_IS_BETTER = ("brier", "log_loss", "mae", "rmse")
_IN_UNITS = ("mae", "rmse")


def median_us(predictor: Predictor, columns: Columns, rows: int) -> float:
    """The median time of a call with that many rows of the sample, in microseconds."""
    some = taken(columns, np.arange(rows) % count_of(columns))
    predictor.run(some)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < _ROUNDS or (len(times) < 20 * _ROUNDS and time.perf_counter() - begun < _LONGEST_S):
        start = time.perf_counter()
        predictor.run(some)
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1e6, 2)


def metric_of(plan: Plan, outputs: OutputSpec, measured: dict[str, float]) -> str:
    """The metric that decides. Raises PackRefused for one that is not measured."""
    usual = "accuracy" if outputs.kind == "classification" else "r2"
    chosen = plan.metric or usual
    if chosen not in measured:
        names = ", ".join(sorted(measured)) or "none"
        raise PackRefused("max_loss", f"the metric {chosen!r} is not measured ({names})", "Name one of these")
    return chosen


def loss_of(metric: str, before: dict[str, float], after: dict[str, float]) -> float:
    """What was lost of a metric; below zero where it grew better. Errors in the target's unit as a share."""
    gap = before[metric] - after[metric]
    if metric not in _SMALLER_IS_BETTER:
        return gap
    return -gap / before[metric] if metric in _IN_UNITS and before[metric] > 0 else -gap


def distance_of(original: Predictor, compressed: Predictor, columns: Columns) -> Distance:
    """The distance of the answers on these rows; those that the original refuses are left out."""
    part = answered(original, columns)
    got = compressed.run(part.columns)
    gaps = [np.abs(got[name] - array).reshape(len(array), -1).max(axis=1) for name, array in _numbers(part.outputs)]
    gap = np.maximum.reduce(gaps) if gaps else np.zeros(count_of(part.columns))
    flips = int((got["label"] != part.outputs["label"]).sum()) if "label" in got else 0
    return Distance(len(gap), float(gap.max(initial=0.0)), float(gap.mean()) if len(gap) else 0.0, flips)


def _numbers(outputs: Outputs) -> list[tuple[str, np.ndarray]]:
    return [(name, array) for name, array in outputs.items() if name != "label"]


Judge = Callable[[Predictor], dict[str, float]]
