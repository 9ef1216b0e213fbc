"""The training frame and the columns: each gives the other back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.bundle.frame import columns_of, frame_of
from penstock.errors import SchemaError
from penstock.schema import Field, Schema


def one(field: Field) -> Schema:
    """A schema of one field."""
    return Schema(fields=(field,))


ROUND_TRIPS = {
    "float64": (Field(name="x", type="float", dtype="float64", nullable=True), pd.Series([1.5, np.nan])),
    "float32": (Field(name="x", type="float", dtype="float32"), pd.Series([1.5, 0.1], dtype="float32")),
    "int64": (Field(name="x", type="int", dtype="int64"), pd.Series([1, 2**53])),
    "int8": (Field(name="x", type="int", dtype="int8"), pd.Series([1, -128], dtype="int8")),
    "Int64": (
        Field(name="x", type="int", dtype="Int64", nullable=True, null_as="na"),
        pd.Series([1, None], dtype="Int64"),
    ),
    "bool": (Field(name="x", type="bool", dtype="bool"), pd.Series([True, False])),
    "object bool": (
        Field(name="x", type="bool", dtype="object", nullable=True, null_as="none"),
        pd.Series([True, None], dtype=object),
    ),
    "text": (Field(name="x", type="string", dtype="object"), pd.Series(["é", ""], dtype=object)),
    "text with NaN": (
        Field(name="x", type="string", dtype="object", nullable=True),
        pd.Series(["a", np.nan], dtype=object),
    ),
    "text with None": (
        Field(name="x", type="string", dtype="object", nullable=True, null_as="none"),
        pd.Series(["a", None], dtype=object),
    ),
    "category": (
        Field(name="x", type="category", dtype="category", allowed=("a", "b"), nullable=True),
        pd.Series(pd.Categorical(["b", None], categories=["a", "b"])),
    ),
    "sentinel": (
        Field(name="x", type="float", dtype="float64", nullable=True, null_as="value", null_value=-1.0),
        pd.Series([3.5, -1.0]),
    ),
    "text sentinel": (
        Field(
            name="x", type="category", dtype="object", allowed=("a",), nullable=True, null_as="value", null_value="?"
        ),
        pd.Series(["a", "?"], dtype=object),
    ),
    "instant": (
        Field(name="x", type="timestamp", dtype="datetime64[ns, UTC]", nullable=True),
        pd.Series(pd.to_datetime(["2024-02-29T12:00:00.000000001Z", None], utc=True)),
    ),
    "naive instant": (
        Field(name="x", type="timestamp", dtype="datetime64[ns]"),
        pd.Series(pd.to_datetime(["2024-02-29", "1970-01-01"])),
    ),
}


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_frame_comes_back(name: str) -> None:
    """A training column goes to the schema's layout and back, dtype and missing values included."""
    field, series = ROUND_TRIPS[name]
    frame = series.to_frame("x")
    pd.testing.assert_frame_equal(frame, frame_of(columns_of(frame, one(field)), one(field)))


def test_int_with_missing_values_becomes_float() -> None:
    """An int column that had no missing value at training gets floats where one is missing, as pandas has it."""
    field = Field(name="x", type="int", dtype="int64", nullable=True)
    frame = frame_of({"x": np.array([1.0, np.nan])}, one(field))
    assert "float64" == str(frame["x"].dtype)


def test_unknown_category_is_kept() -> None:
    """A category outside `allowed` reaches the model as it is, not as a missing value."""
    field = Field(name="x", type="category", dtype="category", allowed=("a", "b"), on_unknown="accept")
    frame = frame_of({"x": np.array(["z", "a"], dtype=object)}, one(field))
    assert ["z", "a"] == frame["x"].tolist()


def test_arguments_are_not_changed() -> None:
    """Writing into the frame leaves the columns alone."""
    columns = {"x": np.array([1.0, 2.0])}
    frame = frame_of(columns, one(Field(name="x", type="float")))
    frame.loc[0, "x"] = 9.0
    assert [1.0, 2.0] == columns["x"].tolist()


def test_missing_column_is_named() -> None:
    """A frame without one of the schema's columns is refused by the column's name."""
    with pytest.raises(SchemaError, match="'x'"):
        columns_of(pd.DataFrame({"y": [1]}), one(Field(name="x", type="float")))


def test_number_in_text_column_is_named() -> None:
    """A number among texts is refused, not turned into a text."""
    with pytest.raises(SchemaError, match="got 3"):
        columns_of(pd.DataFrame({"x": pd.Series(["a", 3], dtype=object)}), one(Field(name="x", type="string")))


@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=20))
def test_floats_are_bit_exact(values: list[float]) -> None:
    """Any finite double, negative zero included, survives both ways."""
    schema = one(Field(name="x", type="float", dtype="float64", nullable=True))
    frame = frame_of({"x": np.array(values)}, schema)
    assert np.array(values).tobytes() == columns_of(frame, schema)["x"].tobytes() or np.isnan(values).any()
