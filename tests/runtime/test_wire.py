"""Frames between a worker and the process of a model: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock.bundle.outputs import OutputSpec
from penstock.errors import DeadlineExceeded, ModelFailed
from penstock.runtime import Model
from penstock.runtime.compute import computed
from penstock.runtime.wire import (
    MAX_FRAME_BYTES,
    Drop,
    Failed,
    Frames,
    MalformedFrame,
    Ran,
    Run,
    answered,
    asked,
    failure_of,
    frame,
    packed,
    unpacked,
    unpacked_outputs,
)
from penstock.schema import Columns, Field, Schema

SCHEMA = Schema(
    fields=(
        Field(name="a", type="float", nullable=True),
        Field(name="t", type="string", nullable=True),
        Field(name="n", type="int"),
        Field(name="at", type="timestamp"),
    )
)


def columns(rows: int) -> Columns:
    texts = np.empty(rows, object)
    texts[:] = [None if row % 3 == 0 else f"é{row}" for row in range(rows)]
    instants = (np.arange(rows) * 10**15).astype("datetime64[ns]")
    return {"a": np.where(np.arange(rows) % 2, np.nan, 0.1), "t": texts, "n": np.arange(rows) * 1.0, "at": instants}


@given(st.integers(0, 40), st.integers(1, 13))
def test_columns_come_as_they_went(rows: int, step: int) -> None:
    """Every value and dtype of a run survives the way, however the stream is cut."""
    sent = columns(rows)
    run = Run(7, [rows], [0], packed(sent, SCHEMA))
    data = bytes(frame(run) + frame(Drop(8)))
    frames = Frames(MAX_FRAME_BYTES)
    got = [asked(part) for at in range(0, len(data), step) for part in frames.of(data[at : at + step])]
    assert [run, Drop(8)] == got
    assert isinstance(got[0], Run)
    for name, column in unpacked(got[0], SCHEMA).items():
        assert column.dtype == sent[name].dtype
        np.testing.assert_array_equal(sent[name], column)


@pytest.mark.parametrize(
    "run",
    [
        Run(1, [], [], packed(columns(0), SCHEMA)),
        Run(1, [2], [0], packed(columns(3), SCHEMA)),
        Run(1, [3], [], packed(columns(3), SCHEMA)),
        Run(1, [4, -1], [0, 0], packed(columns(3), SCHEMA)),
        Run(1, [3], [0], packed(columns(3), SCHEMA)[:2]),
        Run(1, [3], [0], [*packed(columns(3), SCHEMA)[1:], b""]),
    ],
    ids=["no caller", "too few rows", "no deadlines", "a negative count", "a column too few", "columns mixed up"],
)
def test_a_run_that_is_not_of_the_schema(run: Run) -> None:
    """What does not fit the schema or its own counts is refused before any array is made of it."""
    with pytest.raises(MalformedFrame):
        unpacked(run, SCHEMA)


def test_what_is_no_frame() -> None:
    """A length beyond the limit and a payload that is no message are refused."""
    with pytest.raises(MalformedFrame, match="at most 100"):
        list(Frames(100).of(b"\x00\x00\x00\x65"))
    for decode in (asked, answered):
        with pytest.raises(MalformedFrame):
            decode(b"\xc1 no message")


def ran(model: Model, xs: list[float], counts: list[int], deadlines_ns: list[int]) -> Ran:
    run = Run(1, counts, deadlines_ns, [np.array(xs).tobytes()])
    return computed(model, run, unpacked(run, model.schema), clock_ns=lambda: 1000)


def test_a_run_is_computed_and_the_overdue_are_not(bundles: dict[str, Path]) -> None:
    """Callers get their own rows' outputs; who is overdue gets none, and one whose rows fail fails alone."""
    model = penstock.open(bundles["growth"])
    expected = [each.value for each in model.predict([{"x": x} for x in (4.0, 5.0, 6.0)])]
    answer = ran(model, [4.0, 9.0, 1e300, 5.0, 6.0], [1, 1, 1, 2], [0, 999, 2000, 2000])
    assert {1: DeadlineExceeded, 2: ModelFailed} == {each.caller: type(failure_of(each)) for each in answer.failed}
    outputs = unpacked_outputs(answer, model.bundle.outputs, 3)
    assert expected == outputs["value"].tolist()


def test_outputs_of_another_length_are_the_models_failure() -> None:
    """An answer whose bytes are not those of so many rows is refused."""
    spec = OutputSpec(kind="regression")
    with pytest.raises(ModelFailed):
        unpacked_outputs(Ran(1, 0.0, [b"1234567"], []), spec, 1)
    with pytest.raises(ModelFailed):
        unpacked_outputs(Ran(1, 0.0, [], [Failed(0, "model_failed", "x")]), spec, 1)
