"""The compiled check: what callers see of it. The exact verdicts are in `test_check_reference.py`."""

from __future__ import annotations

import datetime
import subprocess
import sys

import msgspec
import numpy as np
import pandas as pd
import pytest

from penstock.errors import SchemaViolation, Violation
from penstock.schema import MISSING_TEXT, Batch, Check, Field, Schema

UTC = datetime.UTC
PEOPLE = Schema(
    fields=(
        Field(name="年龄", type="int", range=(0, 130)),
        Field(name="plan", type="category", allowed=("a", "b"), on_unknown="map", unknown_as="b"),
        Field(name="e mail", type="string", pii="email", nullable=True),
        Field(name="rate", type="float", default=0.5),
        Field(name="visits", type="int", coerce=True),
        Field(name="at", type="timestamp", nullable=True),
    )
)
GOOD = '{"年龄": 30, "plan": "a", "e mail": "a@b.c", "rate": 1, "visits": 3, "at": "2020-01-01T00:00:00Z"}'


def decoded(check, text):
    """The typed rows of `text`."""
    return msgspec.json.decode(text, type=list[check.row])


def violations(check, objects, path="$.instances", form="rows"):
    """The violations as triples."""
    return [
        (violation.path, violation.expected, violation.got)
        for violation in check.violations(objects, path, form).violations
    ]


def test_rows_become_columns_of_the_stated_layout():
    """Numbers are float64 with NaN, texts objects with None, instants datetime64[ns] with NaT, in schema order."""
    check = Check(PEOPLE)
    gaps = '{"年龄": 31, "plan": "b", "e mail": null, "visits": 4, "at": null, "rate": -0.0}'
    columns = check.columns(decoded(check, f"[{GOOD}, {gaps}]"))
    assert list(columns) == list(PEOPLE.names)
    assert columns["年龄"].tolist() == [30.0, 31.0]
    assert columns["e mail"].tolist() == ["a@b.c", None]
    assert np.signbit(columns["rate"]).tolist() == [False, True]
    assert columns["at"].view("int64").tolist() == [1577836800 * 10**9, np.iinfo(np.int64).min]
    assert [str(column.dtype) for column in columns.values()] == [
        "float64", "object", "object", "float64", "float64", "datetime64[ns]",
    ]  # fmt: skip


def test_no_rows_are_columns_of_no_values():
    """An empty batch keeps names and dtypes."""
    columns = Check(PEOPLE).columns([])
    assert [(name, len(column)) for name, column in columns.items()] == [(name, 0) for name in PEOPLE.names]
    assert columns["plan"].dtype == object


def test_settling_says_whether_something_was_changed():
    """A default, a mapping or a coercion changes the row and is told; the row that came stays as it was."""
    check = Check(PEOPLE)
    rows = decoded(check, f"[{GOOD}]")
    assert check.settle(rows) == Batch(rows, False)
    changed = {
        "default": GOOD.replace('"rate": 1, ', ""),
        "mapping": GOOD.replace('"plan": "a"', '"plan": "zz"'),
        "coercion": GOOD.replace('"visits": 3', '"visits": 3.0'),
    }
    for text in changed.values():
        rows = decoded(check, f"[{text}]")
        batch = check.settle(rows)
        assert batch.changed
        assert msgspec.json.decode(text) == msgspec.json.decode(msgspec.json.encode(rows))[0]
        assert batch.rows[0] is not rows[0]


def test_a_record_has_the_names_of_the_fields():
    """A settled row is encoded under the fields' own names, in the schema's order."""
    check = Check(PEOPLE)
    encoded = msgspec.json.encode(check.settle(decoded(check, f"[{GOOD}]")).rows[0])
    assert list(msgspec.json.decode(encoded)) == list(PEOPLE.names)


def test_every_violation_is_told_with_path_expected_and_got():
    """One walk finds all of them; personal data are masked, and of unknown fields only the type is shown."""
    check = Check(PEOPLE)
    row = {"年龄": 200, "plan": 1, "e mail": 12345, "rat": "secret", "visits": 2.5, "at": "2020-01-01T00:00:00"}
    instant = '`timestamp` (RFC 3339 text with an offset, years 1678 to 2261, such as "2026-01-31T09:30:00Z") or null'
    expected = [
        ("$.instances[1].年龄", "`int` in 0..130", "200"),
        ("$.instances[1].plan", "`string` of at most 8192 characters", "1"),
        ('$.instances[1]["e mail"]', "`string` of at most 8192 characters or null", "(masked: email)"),
        ("$.instances[1].visits", "`int` of at most 2**53 in magnitude", "2.5"),
        ("$.instances[1].at", instant, '"2020-01-01T00:00:00"'),
        ("$.instances[1].rat", "a field of the schema; the nearest is `rate`", "`string`"),
    ]
    assert expected == violations(check, [msgspec.json.decode(GOOD), row])


@pytest.mark.parametrize(
    ("field", "value", "expected", "got"),
    [
        ({"type": "float"}, "x" * 100, "`float`", '"' + "x" * 78 + "…"),
        ({"type": "float", "range": (None, 2.5)}, 3, "`float` <= 2.5", "3"),
        ({"type": "float", "range": (1, None)}, True, "`float` >= 1", "true"),
        ({"type": "float"}, 10**400, "`float`", "1" + "0" * 78 + "…"),
        ({"type": "int"}, 3.0, "`int` of at most 2**53 in magnitude", "3.0"),
        ({"type": "bool"}, 1, "`bool`", "1"),
        ({"type": "bool", "nullable": True}, {}, "`bool` or null", "{}"),
        ({"type": "int", "allowed": (1, 2)}, 3, "one of 1, 2", "3"),
        ({"type": "category", "allowed": tuple("abcdefgh")}, "é",
         'one of "a", "b", "c", "d", "e", "f", … (8 in all)', '"é"'),
        ({"type": "string"}, MISSING_TEXT, 'a text other than the reserved U+FFFF + "missing"', '"\uffffmissing"'),
        ({"type": "string"}, None, "`string` of at most 8192 characters", "null"),
    ],
)  # fmt: skip
def test_the_words_of_a_violation(field, value, expected, got):
    """`expected` says what the field takes, `got` is the JSON text of the value, cut at 80 characters."""
    check = Check(Schema(fields=(Field(name="x", **field),)))
    assert [("$[0].x", expected, got)] == violations(check, [{"x": value}], "$")


def test_absent_fields_and_wrong_shapes_are_told():
    """A missing field, a row that is no object, and rows that are no array each have a violation."""
    check = Check(Schema(fields=(Field(name="x", type="bool"),)))
    assert violations(check, [{}, 3]) == [
        ("$.instances[0].x", "`bool`", "no value"),
        ("$.instances[1]", "an object with the fields of the schema", "`number`"),
    ]
    assert violations(check, {"x": True}) == [("$.instances", "an array of rows", "`object`")]
    assert violations(check, {"y": True}, "$.features", "row")[0] == ("$.features.x", "`bool`", "no value")
    assert violations(check, [1, 2], "$.features", "list") == [
        ("$.features", "1 value, one per field of the schema", "2 values")
    ]
    assert violations(check, [[1]], "$.features", "lists") == [("$.features[0][0]", "`bool`", "1")]
    assert violations(check, {"zz": 1}, "$", "row")[1] == ("$.zz", "a field of the schema: `x`", "`number`")


def test_tables_are_told_by_column():
    """Columns of unequal length, that are no arrays, unknown or absent are found, and values by place."""
    names = ("a", "b", "c")
    check = Check(Schema(fields=tuple(Field(name=name, type="float") for name in names)))
    assert violations(check, {"a": [1, "x"], "b": [1], "d": 3}, "$.columns", "table") == [
        ("$.columns.a[1]", "`float`", '"x"'),
        ("$.columns.b", "2 values, as many as `a` has", "1 value"),
        ("$.columns.c", "an array of values", "no value"),
        ("$.columns.d", "a field of the schema: `a`, `b`, `c`", "`number`"),
    ]
    assert violations(check, [], "$.columns", "table") == [
        ("$.columns", "an object with one array per field of the schema", "`array`")
    ]


def test_at_most_a_hundred_violations_are_kept_and_all_are_counted():
    """A thousand bad rows give a hundred violations and the true total."""
    findings = Check(PEOPLE).violations([{"bad": 1}] * 1000)
    assert (len(findings.violations), findings.total) == (100, 6000)
    error = findings.error()
    assert (error.violations, error.total) == (findings.violations, 6000)
    assert isinstance(error.violations[0], Violation)


def test_of_a_repeated_key_the_last_value_counts():
    """The typed pass refuses the first of two values; the second pass takes the last, as the record then says."""
    check = Check(Schema(fields=(Field(name="x", type="float"),)))
    text = '[{"x": "wrong", "x": 2}]'
    with pytest.raises(msgspec.ValidationError):
        decoded(check, text)
    assert check.second_pass(msgspec.json.decode(text)).rows == decoded(check, '[{"x": 2}]')


def test_rows_of_tables_and_lists():
    """Rows given as columns, or by place, are the rows given by name; an absent column takes its default."""
    check = Check(PEOPLE)
    table = {
        "年龄": [30, 31], "plan": ["a", "b"], "e mail": [None, "m"], "visits": [1, 2], "at": [None, None],
    }  # fmt: skip
    rows = check.rows_of_table(msgspec.json.decode(msgspec.json.encode(table), type=check.table))
    by_name = check.settle(rows).rows
    lists = b'[[30, "a", null, 0.5, 1, null], [31, "b", "m", 0.5, 2.0, null]]'
    by_place = check.settle(check.rows_of_lists(msgspec.json.decode(lists, type=list[check.positional]))).rows
    assert by_name == by_place
    with pytest.raises(msgspec.ValidationError, match="one length"):
        check.rows_of_table(msgspec.json.decode(b'{"x": [], "y": [1]}', type=Check(pair()).table))


def pair():
    """A schema of two numbers."""
    return Schema(fields=(Field(name="x", type="float"), Field(name="y", type="float")))


def test_python_values_are_taken_as_what_they_mean():
    """NumPy scalars, NaN, NaT and NA for missing, and datetimes of any zone give the rows of the same JSON."""
    check = Check(PEOPLE)
    hour = datetime.timezone(datetime.timedelta(hours=1))
    expected = check.settle(decoded(check, f"[{GOOD}]")).rows
    moments = [
        datetime.datetime(2020, 1, 1, tzinfo=UTC),
        datetime.datetime(2020, 1, 1, 1, tzinfo=hour),
        pd.Timestamp("2020-01-01T00:00:00Z"),
        np.datetime64("2020-01-01", "ns"),
        "2020-01-01T00:00:00Z",
    ]
    for moment in moments:
        row = {"年龄": np.int32(30), "plan": np.str_("a"), "e mail": "a@b.c", "rate": np.float32(1)}
        row |= {"visits": np.float64(3), "at": moment}
        assert expected == check.from_objects([row]).rows
    plain = {"年龄": 30, "plan": "a", "visits": 3}
    null = check.from_objects([{**plain, "e mail": None, "at": None}]).rows
    for gap, instant in [(np.nan, pd.NaT), (pd.NA, np.datetime64("NaT")), (None, np.float64("nan"))]:
        assert null == check.from_objects([{**plain, "e mail": gap, "at": instant}]).rows


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("timestamp", datetime.datetime(2020, 1, 1)),
        ("timestamp", datetime.date(2020, 1, 1)),
        ("timestamp", datetime.datetime(1500, 1, 1, tzinfo=UTC)),
        ("float", float("inf")),
        ("float", float("nan")),
        ("float", np.bool_(True)),
        ("int", np.float64(3)),
        ("bool", np.int64(1)),
        ("string", "\ud800"),
        ("string", b"bytes"),
        ("string", pd.NA),
    ],
)
def test_python_values_that_json_could_not_carry_are_refused(kind, value):
    """Naive datetimes, infinities, half surrogate pairs and values of another type are violations."""
    check = Check(Schema(fields=(Field(name="x", type=kind),)))
    with pytest.raises(SchemaViolation) as caught:
        check.from_objects([{"x": value}])
    assert [violation.path for violation in caught.value.violations] == ["$[0].x"]


def test_rows_that_are_no_mappings_are_told():
    """A row of another shape, a name that is no text, and a number beyond printing are violations, not tracebacks."""
    check = Check(Schema(fields=(Field(name="x", type="float"),)))
    with pytest.raises(SchemaViolation) as caught:
        check.from_objects([3, {"x": 10**5000}, {"x": 1, 7: 2}])
    assert [(violation.path, violation.got) for violation in caught.value.violations] == [
        ("$[0]", "`number`"),
        ("$[1].x", "`number`"),
        ('$[2]["7"]', "`number`"),
    ]


def test_instants_are_rounded_to_the_microsecond_alike():
    """pandas' nanoseconds and the ninth digit of a text come to the same microsecond."""
    check = Check(Schema(fields=(Field(name="x", type="timestamp"),)))
    text = "2020-01-01T00:00:00.123456789Z"
    assert check.from_objects([{"x": text}]).rows == check.from_objects([{"x": pd.Timestamp(text)}]).rows


def test_texts_are_limited_unless_the_schema_names_them():
    """A free text may have `max_text` characters; a text that the schema itself names may be longer."""
    check = Check(Schema(fields=(Field(name="x", type="string"),)), max_text=3)
    assert check.violations([{"x": "😀é3"}]).total == 0
    assert violations(check, [{"x": "four"}], "$") == [("$[0].x", "`string` of at most 3 characters", '"four"')]
    longer = Field(name="x", type="category", allowed=("a longer one",), on_unknown="accept")
    assert Check(Schema(fields=(longer,)), max_text=3).violations([{"x": "a longer one"}]).total == 0


def test_the_rows_can_stand_inside_other_types():
    """An envelope of the server's own holds rows, strict ones."""
    check = Check(PEOPLE)
    envelope = msgspec.defstruct("Envelope", [("instances", list[check.row])], forbid_unknown_fields=True)
    assert msgspec.json.decode(f'{{"instances": [{GOOD}]}}', type=envelope).instances == decoded(check, f"[{GOOD}]")


def test_serving_imports_no_pandas():
    """The check, the YAML form and the JSON Schema load neither pandas nor Hypothesis."""
    code = (
        "import sys, penstock.schema, penstock.schema.yaml_form, penstock.schema.json_schema\n"
        "print(sorted({'pandas', 'hypothesis', 'sklearn', 'onnx'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
