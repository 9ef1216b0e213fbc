"""`schema.yaml`: exact round trips, readable text, and refusals that say where."""

from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import given, settings

from penstock.errors import SchemaError
from penstock.schema import Field, Schema
from penstock.schema.yaml_form import schema_from_yaml, schema_to_yaml
from penstock.testing import strategies

PLAIN = """\
on_extra: ignore
fields:
- name: 年龄
  type: int
  range: [0, 130]
  nullable: true
  null_as: value
  null_value: -999
- name: housing
  type: category
  allowed: [no, yes, unknown]
- name: rate
  type: float
  range: [null, 1e3]
  default: 1
"""


@settings(max_examples=150, deadline=None)
@given(strategies.schemas())
def test_round_trip_is_exact(schema):
    """What is written reads back as the same schema, and reads as the same plain values under YAML 1.1."""
    text = schema_to_yaml(schema)
    plain = yaml.safe_load(text)["fields"]
    assert schema == schema_from_yaml(text)
    assert [(field.name, field.allowed, field.default) for field in schema.fields] == [
        (field["name"], tuple(field["allowed"]) if "allowed" in field else None, field.get("default", msgspec.UNSET))
        for field in plain
    ]


def test_texts_with_breaks_and_great_length_come_back():
    """Line breaks of every kind, outer spaces, quotes, and long texts are read as they were written."""
    described = "  a 'line'\n\x85\u2028\u2029\r\n\ttab \ufeff 😀 \x7f \x1b \uffff" + "long words " * 60
    schema = Schema(fields=(Field(name="😀" * 128, type="string", description=described, default="# no comment: x"),))
    assert schema == schema_from_yaml(schema_to_yaml(schema))


def test_text_written_by_hand_is_read():
    """Names in any script, unquoted yes and no, integers for bounds, 1e3, null for an open end."""
    expected = Schema(
        on_extra="ignore",
        fields=(
            Field(name="年龄", type="int", range=(0, 130), nullable=True, null_as="value", null_value=-999),
            Field(name="housing", type="category", allowed=("no", "yes", "unknown")),
            Field(name="rate", type="float", range=(None, 1000.0), default=1),
        ),
    )
    assert expected == schema_from_yaml(PLAIN)


def test_written_text_is_for_people():
    """Block style, order kept, short lists in one line, bounds without a needless point, any script unescaped."""
    schema = Schema(fields=(Field(name="年龄", type="float", range=(0, 130.5), allowed=None, description="Jahre"),))
    expected = """\
# What one row is. Every option is described in docs/schema.md.
fields:
- name: 年龄
  type: float
  range: [0, 130.5]
  description: Jahre
"""
    assert expected == schema_to_yaml(schema)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fields: [", "line 1, column 10"),
        ("", "expected a mapping"),
        ("- 1", "expected a mapping"),
        ("fields: 3", "expected a list of fields"),
        ("fields: []", "at least one field"),
        ("fields: [3]", "field 1"),
        ("feilds: []", "did you mean `fields`"),
        ("fields:\n- nmae: a", "did you mean `name`"),
        ("fields:\n- name: a\n  type: int\n  nulable: true", "unknown option `nulable` of field `a`: did you mean"),
        ("fields:\n- name: a\n  type: integer", "field `a`"),
        ("fields:\n- type: int", "field `number 1`"),
        ("fields:\n- name: a\n  type: int\n  default: null", "`default` cannot be null"),
        ("fields:\n- name: a\n  type: category\n  allowed: [1, 2]", "put it in quotes"),
        ("fields:\n- name: a\n  type: float\n  range: [1]", "field `a`"),
        ("fields:\n- name: a\n  type: float\n  range: [.nan, 1]", "finite bounds"),
        ("fields:\n- name: a\n  name: b\n  type: int", "`name` stands twice"),
        ("on_extra: maybe\nfields:\n- name: a\n  type: int", "refuse or ignore"),
        ("fields: &x\n- *x", "aliases"),
        ("? [1]\n: 2", "expected a word as key"),
        ("!!python/object:os.system {}", "could not determine a constructor"),
        ("[" * 5000, "not readable YAML"),
        ("a: \x00", "not readable YAML"),
    ],
)
def test_wrong_text_is_refused_with_the_place_and_the_mend(text, message):
    """Unreadable YAML, unknown options and wrong values are SchemaErrors that say where."""
    with pytest.raises(SchemaError) as caught:
        schema_from_yaml(text)
    assert message in str(caught.value)
