"""How fast the original and the graph answer, side by side on this machine: a graph that is slower serves nobody."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter_ns

import numpy as np

from penstock.bundle.predictor import Predictor
from penstock.bundle.verdict import Speed
from penstock.schema import Columns

SLOWER = 1.5
"""How many times slower the graph must be before it counts: far enough that the noise of a busy machine is not it."""

_SIZES = (1, 64)
_RUNS = 9
_FIRST_RUNS = 3
_PLAIN = 4.0


def measured(
    original: Predictor, graph: Predictor, columns: Columns, clock_ns: Callable[[], int] = perf_counter_ns
) -> tuple[Speed, ...]:
    """The median time of a run of 1 and of 64 rows of the sample, the two taking turns, after one run to warm up.

    Three runs are enough where one of the two is four times faster, nine decide elsewhere.
    """
    return tuple(_measured(original, graph, _rows(columns, size), clock_ns) for size in _SIZES)


def is_slower(speeds: tuple[Speed, ...]) -> bool:
    """Whether the graph is slower by `SLOWER` at one size and not faster by as much at another."""
    ratios = [speed.graph_us / speed.original_us for speed in speeds]
    return max(ratios) >= SLOWER and min(ratios) > 1 / SLOWER


def said(speeds: tuple[Speed, ...]) -> str:
    """The figures in words."""
    parts = [f"{s.rows} row{'s' * (s.rows > 1)} {s.graph_us:,.0f} µs against {s.original_us:,.0f}" for s in speeds]
    return f"the graph is exact but slower than the original: {'; '.join(parts)}"


def _rows(columns: Columns, size: int) -> Columns:
    some = np.arange(size)
    return {name: column[some % len(column)] for name, column in columns.items()}


def _measured(original: Predictor, graph: Predictor, rows: Columns, clock_ns: Callable[[], int]) -> Speed:
    times: dict[str, list[int]] = {"original": [], "graph": []}
    for done in range(_RUNS + 1):
        if done > _FIRST_RUNS and _is_plain(times):
            break
        for name, predictor in (("original", original), ("graph", graph)):
            start = clock_ns()
            predictor.run(rows)
            times[name].append(clock_ns() - start)
    middle = {name: statistics.median(taken[1:]) / 1000 for name, taken in times.items()}
    count = len(next(iter(rows.values())))
    return Speed(count, round(middle["original"], 1), round(middle["graph"], 1))


def _is_plain(times: dict[str, list[int]]) -> bool:
    original, graph = (max(1.0, statistics.median(taken[1:])) for taken in times.values())
    return max(original / graph, graph / original) >= _PLAIN
