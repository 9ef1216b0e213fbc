"""What goes into a record comes out of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.audit import Masked, Record, read_record, tag
from penstock.audit.commitment import Salts
from penstock.audit.record import Lines
from penstock.audit.record import line_of as numbered_line
from penstock.errors import SegmentError, Violation

ANY_TEXT = st.text(st.characters(exclude_categories=()))
TAG_LIKE = st.sampled_from(["$float", "$bytes", "$int", "$text", "$masked", "$", "$$", "$$float", "nan", "a", ""])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62).map(lambda n: n**9)
    | st.floats()
    | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 1e16, 1e22, 2.0**63])
    | st.binary()
    | ANY_TEXT
    | TAG_LIKE
    | st.builds(Masked, TAG_LIKE)
)
PLAIN_TEXT = st.text() | TAG_LIKE
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | TAG_LIKE, inner, max_size=4),
    max_leaves=12,
)
# What the hot path may hand over as it is: no bytes, no key that starts with "$".
LOOSE_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | TAG_LIKE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=4),
    max_leaves=12,
)
AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)


def spelled(value: Any) -> Any:
    """`value` so that == tells apart what it usually does not: 1, 1.0 and True; 0.0 and -0.0; NaN equal to itself."""
    if isinstance(value, list):
        return [spelled(item) for item in value]
    if isinstance(value, dict):
        return {key: spelled(item) for key, item in value.items()}
    if isinstance(value, float):
        return ("float", "nan" if math.isnan(value) else value.hex())
    return (type(value).__name__, value)


def line_of(record: Record, seq: int = 1) -> bytes:
    """The line that the log would write."""
    return numbered_line(record, seq)


@given(VALUES)
def test_tagged_values_come_back(value: Any) -> None:
    """Any nest of JSON types, non-finite floats, huge ints, bytes, odd text and masks survives record, line, record."""
    record = Record(kind="prediction", request_id="r", at=AT, input=tag(value), outputs=tag([value]))
    back = read_record(line_of(record))
    assert (spelled(value), spelled([value])) == (spelled(back.input), spelled(back.outputs))


@given(LOOSE_VALUES, LOOSE_VALUES)
def test_loose_values_come_back_without_tagging_by_the_caller(value: Any, other: Any) -> None:
    """The encoder itself finds NaN, infinities, huge ints and lone surrogates in what it is handed untagged."""
    record = Record(kind="prediction", request_id="r", at=AT, input=value, decision=other)
    back = read_record(line_of(record))
    assert (spelled(value), spelled(other)) == (spelled(back.input), spelled(back.decision))


@given(VALUES)
def test_lines_are_one_line_of_strict_json(value: Any) -> None:
    """A line has one newline, at its end, and parses as JSON of finite numbers whose first key is seq."""
    line = line_of(Record(kind="failure", request_id="r", at=AT, raw=tag(value)), 7)
    assert line.index(b"\n") == len(line) - 1
    expected = ("seq", 7)
    assert expected == next(iter(msgspec.json.decode(line).items()))


@given(
    st.builds(
        Record,
        kind=st.sampled_from(["prediction", "refusal", "failure"]),
        seq=st.integers(1, 2**62),
        request_id=PLAIN_TEXT,
        at=st.datetimes(timezones=st.just(UTC)),
        client_id=st.none() | PLAIN_TEXT,
        principal=PLAIN_TEXT,
        model=st.none() | PLAIN_TEXT,
        version=st.none() | PLAIN_TEXT | st.integers(1, 2**31),
        digest=st.none() | PLAIN_TEXT,
        protocol=st.none() | PLAIN_TEXT,
        key=st.none() | PLAIN_TEXT,
        arm=st.none() | PLAIN_TEXT,
        code=PLAIN_TEXT,
        undeclared=st.integers(0, 2**31),
        violations=st.lists(st.builds(Violation, PLAIN_TEXT, PLAIN_TEXT, PLAIN_TEXT), max_size=2).map(tuple),
        body_bytes=st.none() | st.integers(0, 2**40),
        body_sha256=st.none() | PLAIN_TEXT,
        rows=st.integers(0, 2**31),
        batch_rows=st.integers(0, 2**31),
        queue_ms=st.floats(0, 1e9),
        run_ms=st.floats(0, 1e9),
        total_ms=st.floats(0, 1e9),
    )
)
def test_envelopes_come_back(record: Record) -> None:
    """Every field of the envelope survives, tag-like text included."""
    back = read_record(line_of(record, record.seq))
    assert record == msgspec.structs.replace(back, commitment=None, salt=None)


def test_numbers_of_a_line_are_readable() -> None:
    """The tags are those that docs/audit.md names."""
    value = {"a": math.nan, "b": -math.inf, "c": b"\x00\xff", "d": 2**64, "$e": Masked("email"), "f": "\ud800"}
    expected = (
        b'{"a":{"$float":"nan"},"b":{"$float":"-inf"},"c":{"$bytes":"AP8="},"d":{"$int":"0x10000000000000000"},'
        b'"$$e":{"$masked":"email"},"f":{"$text":"ANg="}}'
    )
    assert expected == bytes(tag(value))


def test_struct_rows_are_recorded_under_their_field_names() -> None:
    """A row struct is written under its encoded names, with NaN tagged and absent fields left out."""
    row = msgspec.defstruct(
        "Row",
        [("f0", float, msgspec.field(name="年龄")), ("f1", Any, msgspec.field(name="b", default=msgspec.UNSET))],
    )
    record = Record(kind="prediction", request_id="r", at=AT, input=[row(math.inf)])
    assert [{"年龄": math.inf}] == read_record(line_of(record)).input


@pytest.mark.parametrize("value", [{1: 2}, {"a": object()}, {1, 2}], ids=["int key", "object", "set"])
def test_values_outside_of_json_are_refused(value: Any) -> None:
    """What has no form in JSON raises TypeError, at tagging, with advice."""
    with pytest.raises(TypeError, match="convert it"):
        tag(value)


def test_a_refused_record_leaves_the_lines_as_they_were() -> None:
    """A record that cannot be encoded appends nothing, so the records around it are whole."""
    lines = Lines(Salts(), 1)
    lines.add(Record(kind="failure", request_id="r", at=AT, input=[1]))
    before = (lines.written.copy(), lines.covered.copy())
    with pytest.raises(TypeError):
        lines.add(Record(kind="failure", request_id="r", at=AT, input=[1, object()]))
    assert before == (lines.written, lines.covered)


@given(ANY_TEXT, ANY_TEXT)
def test_no_text_of_a_caller_keeps_a_record_from_being_written(name: str, got: str) -> None:
    """Lone surrogates in the envelope are spelled out; every other text comes back as it was."""
    violations = (Violation(path=name, expected="text", got=got),)
    back = read_record(
        line_of(Record(kind="refusal", request_id="r", at=AT, model=name, client_id=got, violations=violations))
    )
    spelled_out = [text.encode(errors="backslashreplace").decode() for text in (name, got)]
    assert (*spelled_out, *spelled_out) == (back.model, back.client_id, back.violations[0].path, back.violations[0].got)


@pytest.mark.parametrize(
    "content",
    ['{"$float":"1"}', '{"$bytes":"?"}', '{"$int":7}', '{"$new":1}', '{"$masked":1}', '{"$float":"nan","a":1}'],
)
def test_unknown_tags_are_refused(content: str) -> None:
    """A line with a tag that this version does not write is not read as data."""
    line = f'{{"seq":1,"kind":"prediction","request_id":"r","at":"2026-01-01T00:00:00Z","input":{content}}}'
    with pytest.raises(SegmentError):
        read_record(line.encode())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_segment_error(line: bytes) -> None:
    """Bytes that are no record raise SegmentError and nothing else."""
    with pytest.raises(SegmentError):
        read_record(line)
