"""JSON Schema of a row, and the example row."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.schema import Check, Field, Schema
from penstock.schema.json_schema import example_row, json_schema
from penstock.testing import strategies


@settings(max_examples=300, deadline=None)
@given(strategies.schemas())
def test_the_example_row_is_valid(schema):
    """The check takes the example row of any schema."""
    assert Check(schema).violations([json.loads(json.dumps(example_row(schema)))]).violations == []


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_the_document_is_plain_json_about_every_field(data):
    """Every field stands in the document, and is required exactly when it has no default."""
    schema = data.draw(strategies.schemas())
    document = json.loads(json.dumps(json_schema(schema), allow_nan=False))
    row = data.draw(strategies.rows_of(schema))
    assert list(schema.names) == list(document["properties"])
    assert set(document.get("required", [])) <= set(row)


def test_options_become_keywords():
    """Types, ranges, allowed values, null, defaults and descriptions have their JSON Schema keywords."""
    schema = Schema(
        fields=(
            Field(name="age", type="int", range=(0, 130), description="in years"),
            Field(name="balance", type="float", nullable=True, range=(None, 9.5)),
            Field(name="plan", type="category", allowed=("a", "b"), nullable=True, default="a"),
            Field(name="city", type="category", allowed=("x",), on_unknown="accept"),
            Field(name="mail", type="string", pii="email"),
            Field(name="at", type="timestamp"),
            Field(name="new", type="bool"),
        ),
        on_extra="ignore",
    )
    expected = {
        "type": "object",
        "properties": {
            "age": {"description": "in years", "type": "integer", "minimum": 0, "maximum": 130},
            "balance": {"type": ["number", "null"], "maximum": 9.5},
            "plan": {"default": "a", "enum": ["a", "b", None]},
            "city": {"type": "string", "maxLength": 50, "examples": ["x"]},
            "mail": {"x-pii": "email", "type": "string", "maxLength": 50},
            "at": {"type": "string", "format": "date-time"},
            "new": {"type": "boolean"},
        },
        "required": ["age", "balance", "city", "mail", "at", "new"],
        "additionalProperties": True,
    }
    assert expected == json_schema(schema, max_text=50)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_rows_that_the_check_takes_are_valid_by_json_schema(data):
    """A validator of JSON Schema 2020-12 takes the document, and every row that the check takes."""
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema, of the dev extra")
    schema = data.draw(strategies.schemas())
    document = json_schema(schema)
    jsonschema.Draft202012Validator.check_schema(document)
    validator = jsonschema.Draft202012Validator(document)
    row = data.draw(strategies.rows_of(schema))
    assert [error.message for error in validator.iter_errors(row)] == []
