"""What callers would notice of another version: every kind of change by name, and none forgotten."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from penstock.bundle.outputs import OutputSpec
from penstock.control.compatibility import SchemaChange, output_changes, schema_changes
from penstock.errors import SchemaError, SchemaViolation
from penstock.schema import Check, Field, Form, Schema
from penstock.testing.strategies import fields_called, row_texts_near, rows_of, schemas

AGE = Field(name="age", type="int", range=(0, 130))
PLAN = Field(name="plan", type="category", allowed=("basic", "pro"))
FEE = Field(name="fee", type="float", nullable=True)
NOTE = Field(name="note", type="string", default="")
SCHEMA = Schema(fields=(AGE, PLAN, FEE, NOTE))


def with_field(name: str, **changes: Any) -> Schema:
    """The schema with one field changed."""
    return msgspec.structs.replace(
        SCHEMA,
        fields=tuple(
            msgspec.structs.replace(field, **changes) if field.name == name else field for field in SCHEMA.fields
        ),
    )


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (Schema(fields=(*SCHEMA.fields, Field(name="x", type="int"))), "field `x` (int) is new and is required"),
        (Schema(fields=(AGE, PLAN, FEE)), "field `note` was removed: rows that have it are refused"),
        (with_field("fee", type="int"), "field `fee`: float → int"),
        (with_field("age", type="string", range=None), "field `age`: int → string"),
        (with_field("age", range=(18, 130)), "field `age`: the range is narrower: [0, 130] → [18, 130]"),
        (with_field("age", range=(None, 99)), "field `age`: the range is narrower: [0, 130] → [-∞, 99]"),
        (with_field("age", range=None, allowed=(1, 2)), "field `age`: only 1, 2 are taken now"),
        (with_field("plan", type="float", allowed=None), "field `plan`: category → float"),
        (with_field("plan", allowed=("basic", "max")), "field `plan`: 'pro' is refused now (`allowed`)"),
        (with_field("note", allowed=("",)), "field `note`: only '' are taken now"),
        (with_field("note", default=msgspec.UNSET), "field `note`: it has no default any more, and is required"),
        (with_field("fee", nullable=False), "field `fee`: null is refused now"),
        (with_field("fee", nullable=False, coerce="lenient"), "field `fee`: null is refused now"),
        (
            Schema(fields=(PLAN, AGE, FEE, NOTE)),
            "the order of the fields changed: rows given as lists would be read wrongly",
        ),
    ],
)
def test_breaking_changes_are_named(candidate: Schema, expected: str) -> None:
    """Each change that turns rows away, or reads them as others, is breaking and says which field and how."""
    assert [expected] == [change.what for change in schema_changes(SCHEMA, candidate) if change.is_breaking]


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (
            Schema(fields=(*SCHEMA.fields, Field(name="x", type="int", default=3))),
            "field `x` (int) is new and has the default 3",
        ),
        (with_field("age", range=(0, 150)), "field `age`: the range is wider: [0, 130] → [0, 150]"),
        (with_field("age", type="float"), "field `age`: int → float"),
        (with_field("plan", allowed=("basic", "pro", "max")), "field `plan`: 'max' joined the allowed values"),
        (with_field("plan", on_unknown="accept"), "field `plan`: other values than those named are taken now"),
        (with_field("note", default="none"), "field `note`: the default is 'none', it was ''"),
        (with_field("age", nullable=True), "field `age`: null is taken now"),
        (
            Schema(fields=(AGE, PLAN, FEE), on_extra="ignore"),
            "field `note` was removed: rows may still have it",
        ),
    ],
)
def test_other_changes_are_named_too(candidate: Schema, expected: str) -> None:
    """A change that takes all rows as before is told, and is not breaking."""
    assert [SchemaChange(expected, False)] == schema_changes(SCHEMA, candidate)


def test_members_that_were_ignored() -> None:
    """A schema that refuses what the champion's ignored breaks callers who send more than is needed."""
    ignoring = msgspec.structs.replace(SCHEMA, on_extra="ignore")
    [change] = schema_changes(ignoring, SCHEMA)
    assert ("`on_extra`" in change.what, True) == (True, change.is_breaking)
    assert [] == schema_changes(SCHEMA, ignoring)


def test_what_decides_no_row_is_no_change() -> None:
    """Descriptions, classes of personal data and dtypes change nothing for callers."""
    assert [] == schema_changes(SCHEMA, with_field("age", description="years", pii="age", dtype="int64"))


BINARY = OutputSpec(kind="classification", classes=("no", "yes"), has_probabilities=True)


@pytest.mark.parametrize(
    ("champion", "candidate", "expected"),
    [
        (BINARY, OutputSpec(kind="regression"), "answers are of another kind: classification → regression"),
        (
            BINARY,
            msgspec.structs.replace(BINARY, classes=("no", "perhaps")),
            "classes changed: without 'yes' and with 'perhaps'",
        ),
        (
            BINARY,
            msgspec.structs.replace(BINARY, classes=("yes", "no")),
            "classes changed: in another order: no, yes → yes, no",
        ),
        (BINARY, msgspec.structs.replace(BINARY, has_probabilities=False), "answers have no `probabilities` any more"),
        (
            OutputSpec(kind="classification", classes=(0, 1)),
            OutputSpec(kind="classification", classes=("0", "1")),
            "labels are of another type: (0, 1) → ('0', '1')",
        ),
        (
            OutputSpec(kind="regression"),
            OutputSpec(kind="regression", targets=("a", "b")),
            "targets changed: one value → a, b",
        ),
    ],
)
def test_outputs_that_break_callers(champion: OutputSpec, candidate: OutputSpec, expected: str) -> None:
    """Answers of another kind, with other classes, labels or targets, or without probabilities, are breaking."""
    assert [SchemaChange(expected, True)] == output_changes(champion, candidate)


def test_probabilities_may_join() -> None:
    """Answers may have more than before."""
    before = msgspec.structs.replace(BINARY, has_probabilities=False)
    assert [SchemaChange("answers have `probabilities` now", False)] == output_changes(before, BINARY)


@st.composite
def successors(draw: DrawFn, champion: Schema) -> Schema:
    """Schemas as they come after `champion`: most fields as they were, others changed in one option or anew."""
    fields = []
    for field in champion.fields:
        kind = draw(st.sampled_from(["same", "same", "option", "option", "anew", "gone"]))
        if kind == "option":
            fields.append(draw(changed(field)))
        elif kind != "gone":
            fields.append(field if kind == "same" else draw(fields_called(field.name)))
    if not fields or draw(st.integers(0, 3)) == 0:
        name = "joined" if "joined" not in champion.names else "joined as well"
        fields.append(draw(fields_called(name)))
    return Schema(fields=tuple(fields), on_extra=draw(st.sampled_from(["ignore", champion.on_extra])))


@st.composite
def changed(draw: DrawFn, field: Field) -> Field:
    """The field with one or two options changed; as it was where that contradicts itself."""
    other = draw(fields_called(field.name))
    options = ["type", "nullable", "default", "range", "allowed", "on_unknown", "unknown_as", "coerce"]
    changes = {
        option: getattr(other, option) for option in draw(st.lists(st.sampled_from(options), min_size=1, max_size=2))
    }
    if field.allowed is not None and other.allowed is not None and field.type == other.type and draw(st.booleans()):
        changes["allowed"] = tuple(dict.fromkeys((*field.allowed, *other.allowed)))
    if field.range is not None and draw(st.booleans()):
        changes["range"] = draw(st.sampled_from([None, (field.range[0], None), (None, field.range[1])]))
    if field.nullable and draw(st.integers(0, 3)) == 0:
        changes = {"nullable": False, "coerce": "lenient", "null_as": "nan"}
    numbers = [value for value in field.allowed or () if not isinstance(value, str)]
    if numbers and draw(st.booleans()):
        changes = {"allowed": None, "range": (draw(st.sampled_from(numbers)), None)}
    try:
        return msgspec.structs.replace(field, **changes)
    except SchemaError:
        return field


@given(data=st.data())
def test_without_a_breaking_change_every_row_is_taken(data: st.DataObject) -> None:
    """Rows that the champion's check takes are taken by the candidate's, unless a breaking change was named."""
    champion = data.draw(schemas(max_fields=3))
    candidate = data.draw(successors(champion))
    if any(change.is_breaking for change in schema_changes(champion, candidate)):
        return
    before, after = Check(champion), Check(candidate)
    rows = data.draw(st.lists(rows_of(champion), max_size=3))
    rows += map(json.loads, data.draw(st.lists(row_texts_near(champion), max_size=6)))
    for row in rows:
        known = {name: value for name, value in row.items() if name in champion.names}
        if is_taken(before, known):
            assert is_taken(after, known)
        values = list(known.values())
        if list(known) == list(champion.names) == list(candidate.names) and is_taken(before, values, "lists"):
            assert is_taken(after, values, "lists")


def is_taken(check: Check, row: object, form: Form = "rows") -> bool:
    """Whether the check takes the row, an object or a list."""
    try:
        check.second_pass([row], form=form)
    except (SchemaViolation, msgspec.ValidationError):
        return False
    return True


@settings(max_examples=20)
@given(schemas())
def test_a_schema_is_compatible_with_itself(schema: Schema) -> None:
    """Nothing has changed where nothing has."""
    assert [] == schema_changes(schema, schema)


def test_numbers_that_were_named() -> None:
    """Named numbers may become a range, as long as they are within it."""
    before, wide, narrow = (
        Schema(fields=(Field(name="n", type="int", **limits),))  # type: ignore[arg-type]
        for limits in ({"allowed": (1, 5)}, {"range": (0, 5)}, {"range": (2, 5)})
    )
    assert ["field `n`: numbers of [0, 5] are taken now"] == [change.what for change in schema_changes(before, wide)]
    assert ["field `n`: 1 is refused now (`allowed`)"] == [
        change.what for change in schema_changes(before, narrow) if change.is_breaking
    ]
