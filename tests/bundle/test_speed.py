"""Which of original and graph is faster, and what follows from it at packing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KNeighborsRegressor

from penstock.bundle import flavour
from penstock.bundle.flavour import build
from penstock.bundle.outputs import Outputs
from penstock.bundle.speed import is_slower, measured, said
from penstock.bundle.subject import Subject, subject_of
from penstock.bundle.verdict import Speed
from penstock.schema import Columns


class Counting:
    """A predictor that notes how many rows it was given."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, columns: Columns) -> Outputs:
        """No outputs."""
        self.rows.append(len(columns["x"]))
        return {}


def clock(steps: Iterator[int]) -> Callable[[], int]:
    """A clock that moves on by the next step each time it is read."""
    now = 0

    def read() -> int:
        nonlocal now
        now += next(steps)
        return now

    return read


def steady(original_ns: int, graph_ns: int) -> Iterator[int]:
    """Steps of a clock that is read before and after each run."""
    while True:
        yield from (0, original_ns, 0, graph_ns)


@pytest.mark.parametrize(
    ("speeds", "slower"),
    [
        (((1, 100.0, 149.0), (64, 100.0, 120.0)), False),
        (((1, 100.0, 150.0), (64, 100.0, 100.0)), True),
        (((1, 100.0, 10.0), (64, 100.0, 900.0)), False),
        (((1, 100.0, 90.0), (64, 100.0, 900.0)), True),
    ],
)
def test_a_clear_margin_decides(speeds: tuple[tuple[int, float, float], ...], slower: bool) -> None:
    """The graph is slower at half as much again, unless it is that much faster at another size."""
    assert slower == is_slower(tuple(Speed(*one) for one in speeds))


def test_medians_of_both_sizes() -> None:
    """One and 64 rows are timed, in turns, after one run each to warm up; nine runs where the two are near."""
    original, graph = Counting(), Counting()
    columns: Columns = {"x": np.arange(5.0)}
    found = measured(original, graph, columns, clock(steady(2000, 3000)))
    assert ((Speed(1, 2.0, 3.0), Speed(64, 2.0, 3.0)), [1] * 10 + [64] * 10) == (found, original.rows)
    assert original.rows == graph.rows


def test_three_runs_where_it_is_plain() -> None:
    """Where one is four times faster, three runs after the first are enough."""
    original, graph = Counting(), Counting()
    measured(original, graph, {"x": np.arange(5.0)}, clock(steady(8000, 2000)))
    assert [1] * 4 + [64] * 4 == original.rows


def test_figures_are_told() -> None:
    """The reason holds the figures of both sizes."""
    assert said((Speed(1, 10.0, 30.0), Speed(64, 20.0, 2500.0))) == (
        "the graph is exact but slower than the original: 1 row 30 µs against 10; 64 rows 2,500 µs against 20"
    )


@pytest.fixture(scope="module")
def line() -> Subject:
    """A model of neighbours on whole numbers, whose graph is exact."""
    frame = pd.DataFrame({"x": np.arange(60) * 2, "y": np.zeros(60, int)})
    return subject_of(KNeighborsRegressor(1).fit(frame, frame["x"] * 1.5), frame, None)


def test_a_slower_graph_stays_native(line: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exact graph that is slower is left; the verdict has the proof, the figures and the last step."""
    slow = (Speed(1, 10.0, 30.0), Speed(64, 20.0, 2500.0))
    monkeypatch.setattr(flavour, "measured", lambda *of: slow)
    line_of_words = {"progress": lambda line: None, "budget": 10}
    built = build(restricted(line), **line_of_words)  # type: ignore[arg-type]
    because = built.verdict.native_because
    assert ("native", slow, True) == (
        built.verdict.flavour,
        built.verdict.speed,
        built.verdict.proof is not None and built.verdict.proof.is_exact,
    )
    assert because is not None
    assert ("KNeighborsRegressor", said(slow)) == (because.step, because.reason)


def restricted(subject: Subject) -> Subject:
    """The subject with fields that take the sample's own range only: far away the distances of the two part."""
    fields = [
        field.__class__(name=field.name, type="int", dtype="int64", range=(0, 118)) for field in subject.schema.fields
    ]
    frame = pd.DataFrame({name: column.astype(int) for name, column in subject.columns.items()})
    return subject_of(subject.estimator, frame, subject.schema.__class__(fields=tuple(fields)))
