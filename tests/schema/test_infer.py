"""A schema from a sample: what is decided, what is pointed out, what is refused."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.errors import SchemaError
from penstock.schema import Check, Field, Schema
from penstock.schema.infer import infer

DATA = Path(__file__).parents[2] / "../shared/data"
UTC = datetime.UTC


def only_field(values, **options):
    """The field inferred from a frame of one column `x`."""
    return infer(pd.DataFrame({"x": pd.Series(values, **options)})).schema.fields[0]


def topics(frame):
    """The topics pointed out, per column."""
    notes = {}
    for note in infer(frame).notes:
        notes.setdefault(note.field, set()).add(note.topic)
    return notes


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1.5, 2.5], "float64", {"type": "float", "dtype": "float64"}),
        ([1.5, None], "float64", {"type": "float", "dtype": "float64", "nullable": True, "null_as": "nan"}),
        ([1.5, 2.5], "float32", {"type": "float", "dtype": "float32"}),
        ([1, 2], "int64", {"type": "int", "dtype": "int64"}),
        ([1, 2], "uint8", {"type": "int", "dtype": "uint8"}),
        ([1, None], "Int64", {"type": "int", "dtype": "Int64", "nullable": True, "null_as": "na"}),
        ([True, False], "bool", {"type": "bool", "dtype": "bool"}),
        ([True, None], "boolean", {"type": "bool", "dtype": "boolean", "nullable": True, "null_as": "na"}),
        ([True, None], "object", {"type": "bool", "dtype": "object", "nullable": True, "null_as": "none"}),
        ([1, np.int32(2)], "object", {"type": "int", "dtype": "object"}),
        ([1, 2.5], "object", {"type": "float", "dtype": "object"}),
        (["a", "a"], "object", {"type": "category", "allowed": ("a",), "dtype": "object"}),
        (["b", "a", "b", "a"], "object", {"type": "category", "allowed": ("a", "b"), "dtype": "object"}),
        (["a", "b", "c"], "object", {"type": "string", "dtype": "object"}),
        (["a", "a", None], "object",
         {"type": "category", "allowed": ("a",), "dtype": "object", "nullable": True, "null_as": "none"}),
        (["a", "a", np.nan], "object",
         {"type": "category", "allowed": ("a",), "dtype": "object", "nullable": True, "null_as": "nan"}),
        (["a", "a", pd.NA], "string",
         {"type": "category", "allowed": ("a",), "dtype": "string", "nullable": True, "null_as": "na"}),
        (["b", "a"], pd.CategoricalDtype(["b", "c", "a"]),
         {"type": "category", "allowed": ("b", "c", "a"), "dtype": "category"}),
        ([2, 1], pd.CategoricalDtype([2, 1]), {"type": "int", "allowed": (2, 1), "dtype": "category"}),
        (["2020-01-01", "2020-01-02"], "datetime64[ns]", {"type": "timestamp", "dtype": "datetime64[ns]"}),
        (["2020-01-01", None], "datetime64[ns, UTC]",
         {"type": "timestamp", "dtype": "datetime64[ns, UTC]", "nullable": True, "null_as": "nan"}),
    ],
)  # fmt: skip
def test_the_dtype_decides_the_type(values, dtype, expected):
    """Each dtype has its type; missing values make it nullable, and what they were is kept."""
    assert Field(name="x", **expected) == only_field(values, dtype=dtype)


def test_objects_may_be_datetimes():
    """An object column of datetimes is a timestamp."""
    assert only_field([datetime.datetime(2020, 1, 1, tzinfo=UTC)] * 2, dtype=object).type == "timestamp"


def test_texts_are_a_category_while_they_are_few_and_repeat():
    """Up to 50 distinct values that occur twice on average are a category, else a string."""
    fifty = [str(index) for index in range(50)]
    assert only_field(fifty * 2).type == "category"
    assert only_field(fifty * 2 + ["more"] * 2).type == "string"
    assert only_field((fifty * 2)[:-1]).type == "string"


def test_doubtful_columns_are_pointed_out():
    """Ids, constants, flags, whole floats, sentinels, dates, numbers as texts and rare values each have a note."""
    frame = pd.DataFrame(
        {
            "id": range(40),
            "key": [f"k{index}" for index in range(40)],
            "constant": ["x"] * 40,
            "flag": [0, 1] * 20,
            "whole": [1.0, 2.0, 3.0, 3.0] * 10,
            "minus": [-1, 5, 7, 9] * 10,
            "high": [9999, 5, 7, 9] * 10,
            "day": ["2020-01-02", "2020-01-03"] * 20,
            "number": ["001", "2.5"] * 20,
            "rare": ["a"] * 39 + ["b"],
            "infinite": [1.5, np.inf] * 20,
            "plain": [1.5, 2.25, 3.5, 8.0] * 10,
        }
    )
    expected = {
        "id": {"id"},
        "key": {"id"},
        "constant": {"constant"},
        "flag": {"flag"},
        "whole": {"whole"},
        "minus": {"sentinel"},
        "high": {"sentinel"},
        "day": {"date"},
        "number": {"number"},
        "rare": {"rare"},
        "infinite": {"infinite"},
    }
    assert expected == topics(frame)


def test_personal_data_are_suggested_and_not_set():
    """Names and values that look personal get a note with a class; the field itself stays without one."""
    texts = [f"text {index}" for index in range(6)]
    frame = pd.DataFrame(
        {
            "customerEmail": texts,
            "phone_number": texts,
            "last_name": texts,
            "IBAN": texts,
            "手机号": texts,
            "contact": [f"a{index}@example.org" for index in range(6)],
            "filename": texts,
            "PhoneService": ["yes", "no"] * 3,
        }
    )
    found = infer(frame)
    suggested = {note.field: note.message.split("`")[1] for note in found.notes if note.topic == "personal"}
    assert suggested == {
        "customerEmail": "pii: email",
        "phone_number": "pii: phone",
        "last_name": "pii: name",
        "IBAN": "pii: account",
        "手机号": "pii: phone",
        "contact": "pii: email",
    }
    assert {field.pii for field in found.schema.fields} == {None}


def test_timestamps_without_a_zone_and_finer_than_a_microsecond_are_pointed_out():
    """Naive columns are taken as UTC, nanoseconds are rounded, orders and mixed missing kinds are lost: all noted."""
    frame = pd.DataFrame(
        {
            "naive": pd.to_datetime(["2020-01-01", "2020-01-02"]),
            "zoned": pd.to_datetime(["2020-01-01", "2020-01-02"], utc=True),
            "fine": pd.to_datetime(["2020-01-01T00:00:00.000000001Z", "2020-01-02T00:00:00.000000000Z"]),
            "size": pd.Categorical(["s", "l"], categories=["s", "l"], ordered=True),
        }
    )
    assert topics(frame) == {"naive": {"naive"}, "fine": {"precision"}, "size": {"rare", "ordered"}}
    gaps = pd.DataFrame({"x": pd.Series(["a", "a", "b", "b", None, None, np.nan], dtype=object)})
    assert infer(gaps).schema.fields[0].null_as == "none"
    assert topics(gaps) == {"x": {"missing"}}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame(), "empty frame"),
        (pd.DataFrame(np.zeros((2, 2))), "rename the columns before fitting"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are called `a`"),
        (pd.DataFrame({"x": [None, None]}), "only missing values"),
        (pd.DataFrame({"x": ["a", "b", 3]}), "mixes types: 2 of str, 1 of int; row 2 holds 3"),
        (pd.DataFrame({"x": [True, 2]}, dtype=object), "mixes types"),
        (pd.DataFrame({"x": [decimal.Decimal(1)]}), "Decimal"),
        (pd.DataFrame({"x": [datetime.date(2020, 1, 1)]}), "type date"),
        (pd.DataFrame({"x": [2**53 + 1]}), r"beyond 2\*\*53"),
        (pd.DataFrame({"x": [-(2**63)]}), r"beyond 2\*\*53"),
        (pd.DataFrame({"x": pd.to_timedelta([1], unit="s")}), "timedelta64"),
        (pd.DataFrame({"x": [1j]}), "complex128"),
        (pd.DataFrame({"x": pd.Categorical([1, "a"])}), "categories of int, str"),
        (pd.DataFrame({'x"': [1]}), "rename the column"),
    ],
)
def test_what_no_field_can_hold_is_refused_with_the_mend(frame, message):
    """Unnamed, empty, mixed and unknown columns are SchemaErrors that name the column."""
    with pytest.raises(SchemaError, match=message):
        infer(frame)


@pytest.mark.parametrize("name", ["telco_churn", "bank_full", "bike_hour"])
def test_the_schema_of_real_rows_takes_those_rows(name):
    """Every row of the real samples passes the check of its own schema, and gives the frame's numbers."""
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"needs {path}")
    frame = pd.read_csv(path, nrows=500)
    check = Check(infer(frame).schema)
    columns = check.columns(check.from_objects(frame.to_dict("records")).rows)
    for column in frame.columns:
        assert frame[column].tolist() == columns[column].tolist()


def test_no_range_is_invented():
    """Numbers have neither a range nor allowed values, and extras are refused."""
    schema = infer(pd.DataFrame({"a": [1, 5], "b": [0.5, 2.5]})).schema
    expected = Schema(
        fields=(Field(name="a", type="int", dtype="int64"), Field(name="b", type="float", dtype="float64")),
    )
    assert expected == schema
