"""Rows as callers have them become JSON values."""

from __future__ import annotations

import datetime
import enum
import json
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.calls import Options, predict_call
from penstock.client.rows import json_rows
from penstock.errors import ClientError

UTC = datetime.UTC


class Plan(str, enum.Enum):  # noqa: UP042 - the older kind, whose str() is not its value
    BASIC = "basic"


scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_infinity=False, allow_nan=False)


@given(st.lists(st.dictionaries(st.text(), scalars, max_size=5), max_size=5))
def test_json_values_stay_as_they_are(rows: list[dict[str, object]]) -> None:
    """What JSON can say arrives as it was sent, types included."""
    sent = json.loads(msgspec.json.encode(json_rows(rows)))
    assert rows == sent
    assert [[type(value) for value in row.values()] for row in rows] == [
        [type(v) for v in row.values()] for row in sent
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (np.float64("nan"), None),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (Plan.BASIC, "basic"),
        (np.array(2.5), 2.5),
        (np.longdouble(0.25), 0.25),
        (Decimal("1.5"), 1.5),
        (Decimal("NaN"), None),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (np.datetime64("2026-01-02T03:04:05.000000007"), "2026-01-02T03:04:05.000000007"),
        (np.datetime64("NaT"), None),
    ],
)
def test_values_of_other_kinds_have_a_json_form(value: object, expected: object) -> None:
    """Numpy scalars, decimals, dates and missing values become the number, text or null that they are."""
    [row] = json_rows({"x": value})
    assert (expected, type(expected)) == (row["x"], type(row["x"]))


def test_a_pandas_frame_gives_its_rows() -> None:
    """A DataFrame's cells keep their column's type; NaN, NaT, None and NA are null; nanoseconds stay."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "age": [1.5, float("nan")],
            "n": np.array([1, 2], dtype="int32"),
            "count": pandas.array([1, pandas.NA], dtype="Int64"),
            "plan": pandas.Categorical(["a", None]),
            "name": ["Zoë", None],
            "ok": [True, False],
            "at": pandas.to_datetime(["2026-01-02T03:04:05.000000007Z", None]),
        }
    )
    at = "2026-01-02T03:04:05.000000007+00:00"
    assert [
        {"age": 1.5, "n": 1, "count": 1, "plan": "a", "name": "Zoë", "ok": True, "at": at},
        {"age": None, "n": 2, "count": None, "plan": None, "name": None, "ok": False, "at": None},
    ] == json_rows(frame)
    assert json_rows(frame)[:1] == json_rows(frame.astype(object).iloc[0])


def test_an_arrow_table_gives_its_rows() -> None:
    """An Arrow table's rows are those of its columns."""
    pyarrow = pytest.importorskip("pyarrow")
    assert json_rows(pyarrow.table({"x": [1, None], "y": ["a", "b"]})) == [{"x": 1, "y": "a"}, {"x": None, "y": "b"}]


def test_one_dict_is_one_row_and_an_iterator_is_rows() -> None:
    """A dict stands for itself alone; any iterable of dicts for its dicts."""
    assert json_rows({"x": 1}) == [{"x": 1}]
    assert json_rows({"x": n} for n in range(2)) == [{"x": 0}, {"x": 1}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("age=3", "Expected a dict, a list of dicts or a frame, got `str` - at `rows`."),
        (3, "Expected a dict, a list of dicts or a frame, got `int` - at `rows`."),
        (
            [{"x": 1}, {"x": float("inf")}],
            "Expected a finite number (JSON has no infinity), got an infinity - at `rows[1]['x']`.",
        ),
        (
            [{"x": np.float32("-inf")}],
            "Expected a finite number (JSON has no infinity), got an infinity - at `rows[0]['x']`.",
        ),
        ({"x": [1]}, "Expected a number, text, truth value, date, time or None, got `list` - at `rows[0]['x']`."),
        ({"x": 1j}, "Expected a number, text, truth value, date, time or None, got `complex` - at `rows[0]['x']`."),
        (
            {"x": np.complex64(1)},
            "Expected a number, text, truth value, date, time or None, got numpy `complex64` - at `rows[0]['x']`.",
        ),
    ],
)
def test_what_has_no_json_form_is_refused(rows: object, message: str) -> None:
    """The refusal names the place and what came."""
    with pytest.raises(ClientError) as caught:
        json_rows(rows)
    assert message == str(caught.value)


@pytest.mark.parametrize("rows", [[[1, 2]], np.zeros((2, 2)), [{0: 1}], [None]])
def test_rows_without_names_are_refused(rows: object) -> None:
    """Positions are not names: a matrix or a column called 0 is refused."""
    with pytest.raises(ClientError, match=r"Expected a (dict of field names|text as the field's name)"):
        json_rows(rows)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("../x", {}, "`model`"),
        ("Churn", {}, "`model`"),
        ("", {}, "`model`"),
        ("churn", {"alias": "a/b"}, "`alias`"),
        ("churn", {"alias": "a", "version": 1}, "Leave one of them out"),
        ("churn", {"request_id": "line\nbreak"}, "`request_id`"),
        ("churn", {"request_id": "x" * 129}, "`request_id`"),
        ("churn", {"deadline_ms": 0}, "`deadline_ms`"),
        ("churn", {"params": {"f": object()}}, "`rows` or `params`"),
    ],
)
def test_a_call_that_no_server_takes_is_not_made(model: str, options: dict[str, object], words: str) -> None:
    """Names that could change the path, ids that could change the headers and unknown values are refused."""
    with pytest.raises(ClientError, match=words):
        predict_call(model, {"x": 1}, Options(**options))  # type: ignore[arg-type]
