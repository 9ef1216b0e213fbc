"""Fields and schemas that contradict themselves cannot be made."""

from __future__ import annotations

import msgspec
import pytest

from penstock.errors import SchemaError
from penstock.schema import MISSING_TEXT, Field, Schema

WRONG = [
    ({"name": "", "type": "int"}, "1 to 256 characters"),
    ({"name": " ", "type": "int"}, "1 to 256 characters"),
    ({"name": "x" * 257, "type": "int"}, "1 to 256 characters"),
    ({"name": "a\nb", "type": "int"}, "control characters"),
    ({"name": 'a"b', "type": "int"}, "rename the column"),
    ({"name": "a\\b", "type": "int"}, "rename the column"),
    ({"name": "\ud800", "type": "int"}, "rename the column"),
    ({"name": "a", "type": "float", "range": (2, 1)}, "reversed"),
    ({"name": "a", "type": "float", "range": (None, None)}, "open at both ends"),
    ({"name": "a", "type": "float", "range": (0, float("inf"))}, "finite bounds"),
    ({"name": "a", "type": "string", "range": (0, 1)}, "drop `range`"),
    ({"name": "a", "type": "int", "range": (0.5, 1)}, "integer bounds"),
    ({"name": "a", "type": "int", "range": (0, 2.0**53 + 2)}, "integer bounds"),
    ({"name": "a", "type": "int", "range": (0, 1), "allowed": (1,)}, "drop one of them"),
    ({"name": "a", "type": "category"}, "needs `allowed`"),
    ({"name": "a", "type": "category", "allowed": ()}, "is empty"),
    ({"name": "a", "type": "category", "allowed": ("x", "x")}, "stands twice"),
    ({"name": "a", "type": "category", "allowed": (1,)}, "put it in quotes"),
    ({"name": "a", "type": "category", "allowed": (MISSING_TEXT,)}, "reserved"),
    ({"name": "a", "type": "float", "allowed": (1, 1.0)}, "stands twice"),
    ({"name": "a", "type": "bool", "allowed": (True,)}, "not for a `bool`"),
    ({"name": "a", "type": "timestamp", "allowed": ("2020-01-01T00:00:00Z",)}, "not for a `timestamp`"),
    ({"name": "a", "type": "category", "allowed": ("x",), "on_unknown": "map"}, "needs `unknown_as`"),
    ({"name": "a", "type": "category", "allowed": ("x",), "on_unknown": "map", "unknown_as": "y"}, "not among"),
    ({"name": "a", "type": "category", "allowed": ("x",), "unknown_as": "x"}, "on_unknown: map"),
    ({"name": "a", "type": "string", "on_unknown": "accept"}, "drop it"),
    ({"name": "a", "type": "float", "coerce": True}, "drop `coerce`"),
    ({"name": "a", "type": "bool", "coerce": "lenient"}, "drop `coerce`"),
    ({"name": "a", "type": "int", "coerce": "lenient", "nullable": True}, "drop `nullable`"),
    ({"name": "a", "type": "int", "coerce": "lenient", "allowed": (1, 2)}, "use `range`, or drop `coerce`"),
    ({"name": "a", "type": "int", "default": 3.0}, "`default`"),
    ({"name": "a", "type": "int", "default": True}, "`default`"),
    ({"name": "a", "type": "int", "default": 2**53 + 1}, "at most 2**53"),
    ({"name": "a", "type": "float", "default": float("nan")}, "finite"),
    ({"name": "a", "type": "float", "default": 10**400}, "finite"),
    ({"name": "a", "type": "float", "default": "1"}, "`default`"),
    ({"name": "a", "type": "bool", "default": 1}, "`default`"),
    ({"name": "a", "type": "int", "default": 5, "range": (0, 4)}, "outside `range`"),
    ({"name": "a", "type": "category", "allowed": ("x",), "default": "y"}, "not among"),
    ({"name": "a", "type": "timestamp", "default": "2020-01-01T00:00:00"}, "RFC 3339"),
    ({"name": "a", "type": "timestamp", "default": "1500-01-01T00:00:00Z"}, "between 1677"),
    ({"name": "a", "type": "int", "nullable": True, "null_as": "value"}, "needs `null_value`"),
    ({"name": "a", "type": "int", "null_as": "value", "null_value": 1}, "nullable: true"),
    ({"name": "a", "type": "int", "nullable": True, "null_value": 1}, "null_as: value"),
    ({"name": "a", "type": "int", "nullable": True, "null_as": "value", "null_value": "x"}, "`null_value`"),
    ({"name": "a", "type": "int", "pii": " "}, "printable word"),
    ({"name": "a", "type": "int", "dtype": "\n"}, "printable word"),
    ({"name": "a", "type": "int", "description": "\udc00"}, "surrogate"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_field_that_contradicts_itself_cannot_be_made(options, message):
    """Whoever makes the field, directly or by msgspec, gets a SchemaError with the mend."""
    with pytest.raises(SchemaError) as made:
        Field(**options)
    assert message in str(made.value)
    with pytest.raises(SchemaError) as replaced:
        msgspec.structs.replace(Field(name="b", type="bool"), **options)
    assert message in str(replaced.value)


def test_a_schema_needs_fields_with_names_of_their_own():
    """No field, or one name twice, is a SchemaError."""
    with pytest.raises(SchemaError, match="at least one field"):
        Schema(fields=())
    with pytest.raises(SchemaError, match="two fields are called `a`"):
        Schema(fields=(Field(name="a", type="int"), Field(name="a", type="bool")))


def test_a_field_is_found_by_its_name():
    """`field` gives the field, or a SchemaError that names the known ones."""
    age = Field(name="年龄", type="int")
    schema = Schema(fields=(age,))
    assert age is schema.field("年龄")
    with pytest.raises(SchemaError, match="the fields are 年龄"):
        schema.field("age")
