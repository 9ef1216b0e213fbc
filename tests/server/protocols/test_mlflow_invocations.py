"""MLflow's `/invocations`: every form of rows is read as our own JSON is, CSV too, and answered as pyfunc does."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from forms_oracle import MAX_ROWS, damaged, meant, outcome, own_lists_outcome, own_outcome
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from penstock.bundle.outputs import OutputSpec
from penstock.errors import SchemaViolation, TooLarge, Unreadable
from penstock.schema import Check, Field, Schema
from penstock.server.protocols import Mlflow, MlflowCsv, Own
from penstock.testing.strategies import list_texts_near, row_texts_near, rows_of, schemas, table_texts_near

FIELDS = (
    Field(name="age", type="int"),
    Field(name="plan", type="category", allowed=("a", 'b,\r\n"c"')),
    Field(name="x", type="float", nullable=True),
    Field(name="at", type="timestamp", nullable=True),
)
CHECK = Check(Schema(fields=FIELDS))
DEFAULTS = Check(Schema(fields=(Field(name="n", type="int", default=7), Field(name="b", type="bool", nullable=True))))
NAMES = ["age", "plan", "x", "at"]
VALUES = [3, "a", 1.5, "2026-01-31T09:30:00Z"]
[ROW] = Own().reader(CHECK, 1)(json.dumps({"instances": [dict(zip(NAMES, VALUES, strict=True))]}).encode()).rows


def read(body: Any, check: Check = CHECK) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Mlflow().reader(check, MAX_ROWS)(content)


def read_csv(text: str | bytes, check: Check = CHECK) -> list[Any]:
    body = text if isinstance(text, bytes) else text.encode()
    return list(MlflowCsv().reader(check, MAX_ROWS)(body).rows)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"index": [9], "columns": NAMES, "data": [VALUES]}},
        {"dataframe_split": {"columns": NAMES[::-1], "data": [VALUES[::-1]]}},
        {"dataframe_split": {"columns": [0, 1, 2, 3], "data": [VALUES]}},
        {"dataframe_split": {"data": [VALUES]}, "params": None},
        {"dataframe_records": [dict(zip(NAMES, VALUES, strict=True))], "params": {}},
        {"instances": [dict(zip(NAMES, VALUES, strict=True))]},
        {"instances": [VALUES]},
        {"inputs": [dict(zip(NAMES, VALUES, strict=True))]},
        {"inputs": {name: [value] for name, value in zip(NAMES, VALUES, strict=True)}},
        {"inputs": {name: [[value]] for name, value in zip(NAMES, VALUES, strict=True)}},
        {"inputs": [VALUES], "params": {"predict_method": "predict"}},
        {"columns": NAMES, "data": [VALUES], "index": [0]},
        {"inputs": [[3.0, "a", 1.5, "2026-01-31T09:30:00"]]},
        {"dataframe_split": {"columns": NAMES, "data": [[3.0, "a", 1.5, "2026-01-31T10:30:00+01:00"]]}},
    ],
)
def test_every_form(body: Any) -> None:
    """A row is the same in every form, with whole floats for an int and an instant without an offset, as UTC."""
    asked = read(body)
    assert ([ROW], "predict") == (list(asked.rows), asked.wish)


def test_nan_is_a_missing_value() -> None:
    """MLflow's client writes NaN where pandas has none; inside a text it stays."""
    rows = read(b'{"inputs": [[3, "a", NaN, null], [3, "a", 1, NaN]]}').rows
    assert [CHECK.row(3, "a", None, None), CHECK.row(3, "a", 1.0, None)] == list(rows)
    text = Check(Schema(fields=(Field(name="t", type="string"), Field(name="x", type="float", nullable=True))))
    assert [text.row('NaN "NaN\\', None)] == list(read(b'{"inputs": [["NaN \\"NaN\\\\", NaN]]}', text).rows)


def test_what_was_sent_is_recorded_where_it_was_changed() -> None:
    """The record's raw rows are those of the caller, before 3.0 became 3."""
    assert [{"age": 3.0, "plan": "a", "x": None, "at": None}] == read(
        {"dataframe_records": [{"age": 3.0, "plan": "a", "x": None, "at": None}]}
    ).raw
    assert read({"inputs": [VALUES]}).raw is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "exactly one of"),
        ({"inputs": [VALUES], "instances": [VALUES]}, "instances and inputs"),
        ({"data": [VALUES]}, "`columns`"),
        ({"columns": NAMES, "inputs": [VALUES]}, "`columns`"),
        ({"inputs": [VALUES], "signature_name": "x"}, "signature_name"),
        ({"inputs": [VALUES], "params": {"temperature": 1}}, "temperature"),
        ({"inputs": [VALUES], "params": {"predict_method": "transform"}}, "predict or predict_proba"),
        ({"inputs": [VALUES], "params": [1]}, "`$.params`"),
        ({"dataframe_split": {"columns": ["age", "age"], "data": [[1, 2]]}}, "twice"),
        ({"dataframe_split": {"columns": ["age"], "data": [[1, 2]]}}, "`$.dataframe_split.data[0]`"),
        ({"dataframe_split": [VALUES]}, "Expected `object`"),
        ({"messages": []}, "messages"),
        (b'{"inputs": [[3, "a", Infinity, null]]}', "malformed"),
        (b'{"inputs": [[NaN, "\xff"]]}', "not UTF-8"),
    ],
)
def test_an_unreadable_envelope(body: Any, said: str) -> None:
    """What is not the protocol's envelope says what is."""
    with pytest.raises(Unreadable) as caught:
        read(body)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"dataframe_split": {"columns": NAMES, "data": [[3.5, "a", 1, None]]}}, "$.dataframe_split.data[0][0]"),
        ({"dataframe_split": {"columns": NAMES[:2], "data": [[3, "a"]]}}, "$.dataframe_split.data[0].x"),
        ({"dataframe_split": {"columns": NAMES, "data": 3}}, "$.dataframe_split.data"),
        ({"dataframe_split": {"columns": NAMES[::-1], "data": [3]}}, "$.dataframe_split.data[0]"),
        ({"dataframe_records": []}, "$.dataframe_records"),
        ({"columns": NAMES, "data": [[3, "a", 1, "yesterday"]]}, "$.data[0][3]"),
        ({"inputs": {"age": 3}}, "$.inputs.age"),
        ({"instances": [["3", "a", 1, None]]}, "$.instances[0][0]"),
    ],
)
def test_rows_that_break_the_schema(body: Any, path: str) -> None:
    """The first violation is told with its path in what was sent."""
    with pytest.raises(SchemaViolation) as caught:
        read(body)
    assert path == caught.value.violations[0].path


def test_too_many_rows() -> None:
    """More rows than server.max_rows are refused, in JSON and in CSV."""
    with pytest.raises(TooLarge):
        read({"dataframe_split": {"columns": NAMES[::-1], "data": [VALUES[::-1]] * 11}})
    with pytest.raises(TooLarge):
        read_csv("n,b\n" + "1,\n" * 11, DEFAULTS)


def test_a_method_that_the_model_has_not() -> None:
    """Probabilities of a model that has none are refused, before it runs."""
    body = json.dumps({"inputs": [VALUES], "params": {"predict_method": "predict_proba"}}).encode()
    assert "predict_proba" == read(body).wish
    with pytest.raises(Unreadable, match="this model has"):
        Mlflow().reader_for(CHECK, MAX_ROWS, OutputSpec(kind="regression"))(body)


@pytest.mark.parametrize(
    "text",
    [
        "age,plan,x,at\n3,a,1.5,2026-01-31T09:30:00Z\n",
        "\ufeffage,plan,x,at\r\n3,a,1.5,2026-01-31 09:30:00\r\n",
        'at,x,plan,age\n2026-01-31 09:30:00+00:00,1.5e0,"a","3.0"',
        '"age","plan","x","at"\r"3","a","1.5","2026-01-31 09:30"\r\r',
    ],
)
def test_csv(text: str) -> None:
    """A header in any order, quotes, all line ends and a byte order mark; types are the schema's."""
    assert [ROW] == read_csv(text)


def test_csv_of_odd_texts_and_gaps() -> None:
    """A quoted text may hold commas, quotes and line ends; an empty cell is null, an absent column its default."""
    assert [CHECK.row(1, 'b,\r\n"c"', None, None)] == read_csv('age,plan,x,at\r\n1,"b,\r\n""c""",,""\r\n')
    rows = read_csv('b\nTrue\nfalse\n""\n', DEFAULTS)
    assert [DEFAULTS.row(f0=7, f1=True), DEFAULTS.row(f0=7, f1=False), DEFAULTS.row(f0=7, f1=None)] == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty body"),
        ("\n\n", "empty body"),
        ("age,plan\n3,a\n", "`x`, `at` are not in it"),
        ("Age,plan,x,at\n3,a,1,\n", "`age` are not in it"),
        (",age,plan,x,at\n0,3,a,1,\n", "index=False"),
        ("age,age,plan,x,at\n3,3,a,1,\n", "twice"),
        ("age,plan,x,at\n3,a,1\n", "in row 1"),
        ('age,plan,x,at\n3,"a,1,\n', "RFC 4180"),
        ('age,plan,x,at\n3,"a"b,1,\n', "RFC 4180"),
        (b"age,plan,x,at\n3,\xff,1,\n", "not UTF-8"),
        ("age,plan,x,at\n".encode("utf-16"), "not UTF-8"),
    ],
)
def test_unreadable_csv(text: str | bytes, said: str) -> None:
    """What is no CSV, or has another header, says what was expected."""
    with pytest.raises(Unreadable) as caught:
        read_csv(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "cell", ["3.5", "007", " 3", "+3", "1e1", "0x1", "nan", "True", "", "9007199254740993", "٣", "9" * 5000]
)
def test_csv_cells_that_are_no_int(cell: str) -> None:
    """A text that is not plainly a whole number is none."""
    with pytest.raises(SchemaViolation) as caught:
        read_csv(f"age,plan,x,at\n{cell},a,1,\n")
    assert ["$[0].age"] == [one.path for one in caught.value.violations]


@pytest.mark.parametrize("cell", ["nan", "inf", "1e999", "1_0", "1.", ".5", "0x1p3", "1.٣"])
def test_csv_cells_that_are_no_float(cell: str) -> None:
    """A text that is not a finite number as JSON writes it is none."""
    with pytest.raises(SchemaViolation):
        read_csv(f"age,plan,x,at\n3,a,{cell},\n")


def _as_frame(field: Field, value: Any) -> Any:
    if field.type == "timestamp" and isinstance(value, str):
        with contextlib.suppress(ValueError):
            at = datetime.fromisoformat(value)
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()
    whole = field.type == "int" and isinstance(value, float) and value == int(value) and abs(value) <= 2**53
    return int(value) if whole else value


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_rows_of_our_own_json(data: st.DataObject) -> None:
    """For rows that nearly keep to any schema: what our own API reads is read the same, what it refuses is refused."""
    schema = data.draw(schemas(max_fields=3))
    check = Check(schema)
    face = Mlflow().reader(check, MAX_ROWS)
    rows = "[" + ", ".join(data.draw(st.lists(row_texts_near(schema), max_size=3))) + "]"
    lists = "[" + ", ".join(data.draw(st.lists(list_texts_near(schema), max_size=3))) + "]"
    columns = json.dumps(list(schema.names))
    for text, own, bodies in (
        (
            rows,
            own_outcome(check, rows),
            [f'{{"{name}": {rows}}}' for name in ("dataframe_records", "instances", "inputs")],
        ),
        (
            lists,
            own_lists_outcome(check, lists),
            [f'{{"dataframe_split": {{"columns": {columns}, "data": {lists}}}}}', f'{{"inputs": {lists}}}'],
        ),
    ):
        for body in bodies:
            found = outcome(face, body.encode())
            assert found == own or (own is None and found == own_outcome(check, meant(schema, text, _as_frame)))


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_damaged_json(data: st.DataObject) -> None:
    """A damaged body is refused, or what is read of it is what our own API reads of the rows in it."""
    body = b'{"dataframe_split": {"columns": ["age", "plan", "x", "at"], "data": [[3, "a", 1.5, null]]}}'
    broken = data.draw(damaged(body))
    found = outcome(Mlflow().reader(CHECK, MAX_ROWS), broken)
    if found is not None:
        text = broken.decode().replace("NaN", "null")
        sent = json.loads(text)
        rows = sent["dataframe_split"]["data"]
        assert found == own_outcome(CHECK, meant(CHECK.schema, json.dumps(rows), _as_frame))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_csv(data: st.DataObject) -> None:
    """Damaged CSV is refused, or read as Python's own reader and our own JSON read it."""
    broken = data.draw(damaged(b'age,plan,x,at\r\n3,"a",1.5,\r\n41,a,,2026-01-31 09:30:00\r\n'))
    found = outcome(MlflowCsv().reader(CHECK, MAX_ROWS), broken)
    if found is not None:
        [header, *lines] = [line for line in csv.reader(io.StringIO(broken.decode("utf-8-sig"), newline="")) if line]
        kinds = {
            "age": lambda text: int(float(text)),
            "x": float,
            "plan": str,
            "at": _utc,
        }
        rows = [
            {name: kinds[name](text) if text else None for name, text in zip(header, line, strict=True)}
            for line in lines
        ]
        assert found == own_outcome(CHECK, json.dumps(rows))


def _utc(text: str) -> str:
    at = datetime.fromisoformat(text)
    return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).isoformat()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_csv_of_rows_that_keep_to_a_schema(data: st.DataObject) -> None:
    """Rows written as CSV are the rows that our own JSON makes of them, an empty text being null."""
    schema = data.draw(schemas(max_fields=4))
    # A lenient field reads True and "True" otherwise, and CSV has only texts.
    assume(not any(field.coerce == "lenient" or field.name.startswith("\ufeff") for field in schema.fields))
    rows = data.draw(st.lists(rows_of(schema), min_size=1, max_size=3))
    names = [name for name in schema.names if all(name in row for row in rows)]
    assume(names)
    cells = [{name: None if row[name] == "" else row[name] for name in names} for row in rows]
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([names, *(row.values() for row in cells)])
    check = Check(schema)
    assert own_outcome(check, json.dumps(cells)) == outcome(
        MlflowCsv().reader(check, MAX_ROWS), text.getvalue().encode()
    )


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_columns_near_a_schema(data: st.DataObject) -> None:
    """Columns that our own API reads are read the same."""
    schema = data.draw(schemas(max_fields=3))
    check, table = Check(schema), data.draw(table_texts_near(schema))
    own, found = (
        own_outcome(check, table, "columns"),
        outcome(Mlflow().reader(check, MAX_ROWS), f'{{"inputs": {table}}}'.encode()),
    )
    assert own in (None, found)
