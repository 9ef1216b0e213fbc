"""The compiled check against the slow obvious reference, and its two passes against each other."""

import json
import re

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_check import Refused, column_values

from penstock.errors import SchemaViolation
from penstock.schema import Check, Field, Schema
from penstock.testing import strategies

MANY = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))


def typed_columns(check, text, form):
    """What the typed pass makes of `text`; raises msgspec.ValidationError where it refuses."""
    if form == "table":
        rows = check.rows_of_table(msgspec.json.decode(text, type=check.table))
    elif form == "lists":
        rows = check.rows_of_lists(msgspec.json.decode(text, type=list[check.positional]))
    else:
        rows = msgspec.json.decode(text, type=list[check.row])
    return check.columns(check.settle(rows).rows)


def assert_same_columns(expected, actual, schema):
    """Columns are equal, in the schema's order, with the dtypes that `Columns` states."""
    assert list(expected) == list(actual)
    for field in schema.fields:
        column, values = actual[field.name], expected[field.name]
        if field.type in ("string", "category"):
            assert column.dtype == object
            assert values == column.tolist()
        elif field.type == "timestamp":
            assert column.dtype == "datetime64[ns]"
            nat = np.datetime64("NaT", "ns")
            ticks = np.array([nat if value is None else value for value in values], "datetime64[ns]")
            assert ticks.view("int64").tolist() == column.view("int64").tolist()
        else:
            assert column.dtype == np.float64
            numbers = [float("nan") if value is None else value for value in values]
            np.testing.assert_array_equal(numbers, column)
        assert column.shape == (len(values),)
        assert column.flags["C_CONTIGUOUS"]


def judge(schema, text, form):
    """Compares the judges on one text: reference, typed pass, second pass, walk."""
    check = Check(schema)
    objects = msgspec.json.decode(text)
    try:
        expected = column_values(schema, text, form)
    except Refused:
        with pytest.raises(msgspec.ValidationError):
            typed_columns(check, text, form)
        with pytest.raises(SchemaViolation) as caught:
            check.second_pass(objects, "$", form)
        assert 0 < len(caught.value.violations) <= caught.value.total
        return
    assert check.violations(objects, "$", form).total == 0
    assert_same_columns(expected, check.columns(check.second_pass(objects, "$", form).rows), schema)
    # Of a key that stands twice the typed pass judges both values: there, only the second pass can take the last.
    if not has_repeated_key(text):
        assert_same_columns(expected, typed_columns(check, text, form), schema)


def has_repeated_key(text):
    """Whether some object in `text` has a key twice."""
    repeated = []
    json.loads(text, object_pairs_hook=lambda pairs: repeated.append(len(pairs) != len(dict(pairs))))
    return any(repeated)


@MANY
@given(st.data())
def test_named_rows_are_judged_as_the_reference_judges_them(data):
    """Rows given as objects: same verdict and same columns as the reference, and the walk agrees."""
    schema = data.draw(strategies.schemas())
    rows = data.draw(st.lists(strategies.row_texts_near(schema), min_size=1, max_size=3))
    judge(schema, "[" + ",".join(rows) + "]", "rows")


@MANY
@given(st.data())
def test_rows_by_place_are_judged_as_the_reference_judges_them(data):
    """Rows given as arrays: same verdict and same columns as the reference, and the walk agrees."""
    schema = data.draw(strategies.schemas(max_fields=4))
    rows = data.draw(st.lists(strategies.list_texts_near(schema), min_size=0, max_size=3))
    judge(schema, "[" + ",".join(rows) + "]", "lists")


@MANY
@given(st.data())
def test_tables_are_judged_as_the_reference_judges_them(data):
    """Columns of values: same verdict and same columns as the reference, and the walk agrees."""
    schema = data.draw(strategies.schemas(max_fields=4))
    judge(schema, data.draw(strategies.table_texts_near(schema)), "table")


@pytest.mark.parametrize(
    "options",
    [
        {"type": "float"},
        {"type": "float", "allowed": (1, 2.5)},
        {"type": "float", "range": (0, 2.5)},
        {"type": "int"},
        {"type": "int", "coerce": True},
        {"type": "int", "coerce": True, "range": (-1, 3)},
        {"type": "int", "coerce": True, "allowed": (1, 3)},
        {"type": "bool"},
        {"type": "string"},
        {"type": "string", "allowed": ("", "3")},
        {"type": "category", "allowed": ("é", "None")},
        {"type": "category", "allowed": ("é",), "on_unknown": "accept"},
        {"type": "category", "allowed": ("é",), "on_unknown": "map", "unknown_as": "é"},
        {"type": "timestamp"},
        *({"type": kind, "coerce": "lenient"} for kind in ("float", "int", "string")),
        {"type": "float", "coerce": "lenient", "default": 1.5, "range": (-1, 100)},
        {"type": "int", "coerce": "lenient", "default": 0, "range": (None, 2)},
        {"type": "string", "coerce": "lenient", "default": "unknown"},
        {"type": "category", "coerce": "lenient", "allowed": ("é", "3.0", "True")},
        {"type": "category", "coerce": "lenient", "allowed": ("é",), "on_unknown": "accept", "default": "x"},
        {"type": "category", "coerce": "lenient", "allowed": ("é",), "on_unknown": "map", "unknown_as": "é"},
    ],
    ids=str,
)
@pytest.mark.parametrize("nullable", [False, True])
def test_odd_values_are_judged_as_the_reference_judges_them(options, nullable):
    """Each odd value, those beside the limits of a type among them, meets each kind of field."""
    is_lenient = options.get("coerce") == "lenient"  # such a field is never nullable
    schema = Schema(fields=(Field(name="x", nullable=nullable and not is_lenient, **options),))
    for token in strategies.ODD_TOKENS:
        judge(schema, f'[{{"x": {token}}}]', "rows")


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_python_rows_are_judged_as_json_rows(data):
    """Plain Python rows give the rows that the same JSON gives, or a SchemaViolation where that is refused."""
    schema = data.draw(strategies.schemas(max_fields=4))
    check = Check(schema)
    text = "[" + data.draw(strategies.row_texts_near(schema)) + "]"
    objects = msgspec.json.decode(text)
    try:
        expected = check.second_pass(objects)
    except SchemaViolation as violation:
        with pytest.raises(SchemaViolation, match=re.escape(str(violation))):
            check.from_objects(objects)
    else:
        assert expected == check.from_objects(objects)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_rows_that_keep_to_the_schema_are_taken(data):
    """What the strategies call a valid row has no violation, and its record reads back as the same row."""
    schema = data.draw(strategies.schemas())
    check = Check(schema)
    rows = data.draw(st.lists(strategies.rows_of(schema), max_size=3))
    typed = msgspec.json.decode(json.dumps(rows), type=list[check.row])
    assert typed == msgspec.json.decode(msgspec.json.encode(typed), type=list[check.row])
    assert check.violations(rows).total == 0
    assert len(check.settle(typed).rows) == len(rows)
