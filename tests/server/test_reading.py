"""Reading bodies: what a protocol makes of bytes, before any model is asked."""

from __future__ import annotations

import pytest

from penstock.errors import SchemaViolation, TooLarge, Unreadable
from penstock.schema import Check, Field, Schema
from penstock.server.protocols import Own, Short

CHECK = Check(Schema(fields=(Field(name="age", type="int"), Field(name="plan", type="category", allowed=("a", "b")))))


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"age": "x", "age": 3, "plan": "a"}]}',
        b'{"instances": [{"age": 3, "plan": "never", "plan": "a"}]}',
        b'{"instances": 7, "instances": [{"age": 3, "plan": "a"}]}',
        b'{"key": 7, "key": "k", "instances": [{"age": 3, "plan": "a"}]}',
        b'{"columns": {"age": ["x"], "age": [3], "plan": ["a"]}}',
    ],
)
def test_of_a_repeated_key_the_last_value_counts(body: bytes) -> None:
    """A wrong value that a later one replaces is not held against the caller."""
    (row,) = Own().reader(CHECK, 10)(body).rows
    assert CHECK.row(3, "a") == row


def test_a_repeated_key_in_features_counts_last() -> None:
    """The short names read rows by the same rule."""
    (row,) = Short(is_batch=False).reader(CHECK, 10)(b'{"age": "x", "age": 3, "plan": "a"}').rows
    assert CHECK.row(3, "a") == row


@pytest.mark.parametrize(
    ("face", "body"),
    [
        (Own(), b'{"instances": [%b]}' % b", ".join([b"{}"] * 11)),
        (Own(), b'{"columns": {"age": [%b]}}' % b", ".join([b"null"] * 11)),
        (Short(is_batch=True), b"[%b]" % b", ".join([b"{}"] * 11)),
        (Short(is_batch=True), b"[%b]" % b", ".join([b"[]"] * 11)),
    ],
)
def test_too_many_wrong_rows_are_not_walked(face: Own | Short, body: bytes) -> None:
    """More rows than one call may send are refused as such, whatever is wrong with them: the walk would take long."""
    with pytest.raises(TooLarge, match="11 rows in one call"):
        face.reader(CHECK, 10)(body)


@pytest.mark.parametrize("body", [b'{"instances": [{"age": 3, "plan": "a"}], "key": 7}', b'{"rows": []}', b"[]", b"7"])
def test_another_envelope_is_unreadable(body: bytes) -> None:
    """An envelope that is not the protocol's is told apart from rows that break the schema."""
    with pytest.raises(Unreadable):
        Own().reader(CHECK, 10)(body)


def test_rows_that_break_the_schema_are_told_with_their_path() -> None:
    """The path leads into the body as the caller sent it."""
    with pytest.raises(SchemaViolation) as caught:
        Own().reader(CHECK, 10)(b'{"instances": [{"age": 3, "plan": "a"}, {"age": 3.5, "plan": "c"}]}')
    assert ["$.instances[1].age", "$.instances[1].plan"] == [one.path for one in caught.value.violations]
