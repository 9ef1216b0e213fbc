"""Arrow's stream for our own API: read and refused as the same columns in JSON are, and never worse than a 4xx."""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import CallFailure, SchemaViolation, TooLarge, Unreadable, UnsupportedMedia
from penstock.schema import Check, Field, Schema
from penstock.server.call import Asked, Call
from penstock.server.protocols.arrow import STREAM, Arrow
from penstock.server.protocols.own import Own

SCHEMA = Schema(
    fields=(
        Field(name="income", type="float", nullable=True, pii="money"),
        Field(name="age", type="int", range=(0, 130)),
        Field(name="is_new", type="bool"),
        Field(name="note", type="string", nullable=True),
        Field(name="plan", type="category", allowed=("basic", "plus")),
        Field(name="since", type="timestamp", nullable=True),
        Field(name="calls", type="int", default=0),
    )
)
CHECK = Check(SCHEMA)
MAX_ROWS, MAX_BYTES = 50, 100_000
FACE = Arrow(Own(), reads=STREAM, writes=STREAM, max_bytes=MAX_BYTES)
READ = FACE.reader(CHECK, MAX_ROWS)
READ_JSON = Own().reader(CHECK, MAX_ROWS)
INSTANT = datetime(2026, 1, 31, 9, 30, 0, 123456, UTC)
COLUMNS: dict[str, list[Any]] = {
    "income": [1.5, None, -2.0],
    "age": [31, 0, 130],
    "is_new": [True, False, True],
    "note": ["é", None, ""],
    "plan": ["basic", "plus", "basic"],
    "since": [INSTANT, None, INSTANT + timedelta(days=9999)],
    "calls": [1, 2, 3],
}
ROWS = 3


def stream(table: pa.Table, most: int = 2, **options: Any) -> bytes:
    """A table as a stream, in batches of two rows, or as many as `most`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=most)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def with_column(name: str, values: Any) -> bytes:
    """The columns with another one in the place of `name`."""
    return stream(pa.table({**COLUMNS, name: values}))


def refused(body: bytes) -> list[str]:
    """What is told of the violations in a stream."""
    with pytest.raises(SchemaViolation) as raised:
        READ(body)
    return [str(violation) for violation in raised.value.violations]


def refused_as_json(columns: dict[str, Any]) -> list[str]:
    """What is told of the violations in JSON columns."""
    with pytest.raises(SchemaViolation) as raised:
        READ_JSON(msgspec.json.encode({"columns": columns}))
    return [str(violation) for violation in raised.value.violations]


def same(asked: Asked) -> list[Any]:
    """The rows, for comparison."""
    return list(asked.rows)


def test_columns_are_the_rows_that_json_has() -> None:
    """Every type of field, nulls and a default included, over several batches."""
    asked = READ(stream(pa.table(COLUMNS)))
    assert same(READ_JSON(msgspec.json.encode({"columns": COLUMNS}))) == same(asked)
    assert asked.raw is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("income", pa.array(COLUMNS["income"], pa.float32())),
        ("income", pa.array([1.5, None, -2.0]).cast(pa.decimal128(9, 2))),
        ("income", pa.array([1.5, np.nan, -2.0])),
        ("age", pa.array(COLUMNS["age"], pa.uint8())),
        ("age", pa.array(COLUMNS["age"], pa.int16()).dictionary_encode()),
        ("note", pa.array(COLUMNS["note"]).dictionary_encode()),
        ("note", pa.array(COLUMNS["note"], pa.large_string())),
        ("since", pa.array(COLUMNS["since"], pa.timestamp("us", "Europe/Berlin"))),
        ("since", pa.array(COLUMNS["since"], pa.timestamp("ns", "UTC"))),
    ],
    ids=["float32", "decimal", "nan", "uint8", "int-codes", "codes", "large", "berlin", "ns"],
)
def test_a_value_is_the_same_in_every_type_that_holds_it(name: str, values: pa.Array) -> None:
    """Widths, dictionaries, zones and units do not matter; NaN means missing."""
    assert same(READ(stream(pa.table(COLUMNS)))) == same(READ(with_column(name, values)))


def test_float32_is_widened() -> None:
    """A number of 32 bits is the same number as a double, not the one that its shortest text would be."""
    body = with_column("income", pa.array([0.1, 0.2, 0.3], pa.float32()))
    assert [float(np.float32(value)) for value in (0.1, 0.2, 0.3)] == [row.f0 for row in READ(body).rows]


def test_an_absent_column_has_its_default() -> None:
    """What was sent is kept beside what was used, as for JSON."""
    columns = {name: values for name, values in COLUMNS.items() if name != "calls"}
    asked, expected = READ(stream(pa.table(columns))), READ_JSON(msgspec.json.encode({"columns": columns}))
    assert same(expected) == same(asked)
    assert expected.raw is not None
    assert msgspec.to_builtins(expected.raw[0], builtin_types=(datetime,))["plan"] == asked.raw[0]["plan"]  # type: ignore[index]
    assert "calls" not in asked.raw[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("age", [31, 200, -1]),
        ("age", [1.0, 2.0, 3.0]),
        ("age", ["31", "32", "33"]),
        ("age", [31, None, 33]),
        ("income", ["a lot", "1", None]),
        ("is_new", [1, 0, 1]),
        ("plan", ["gold", "basic", "plus"]),
        ("calls", [True, False, True]),
        ("shoe_size", [1, 2, 3]),
        ("note", ["x" * 9000, "", "a"]),
    ],
)
def test_wrong_values_are_told_in_the_words_of_json(name: str, values: list[Any]) -> None:
    """The same path, expectation and value for each, and as many."""
    assert refused_as_json({**COLUMNS, name: values}) == refused(with_column(name, values))


def test_a_missing_column_is_told_in_the_words_of_json() -> None:
    """A field without a default has to be there."""
    columns = {name: values for name, values in COLUMNS.items() if name != "plan"}
    assert refused_as_json(columns) == refused(stream(pa.table(columns)))


def test_instants_without_a_zone_are_refused() -> None:
    """A naive timestamp is told as the text that JSON would have."""
    naive = pa.array([datetime(2026, 1, 31, 9, 30)] * ROWS, pa.timestamp("us"))
    assert refused_as_json({**COLUMNS, "since": ["2026-01-31T09:30:00"] * ROWS}) == refused(with_column("since", naive))


@pytest.mark.parametrize("count", [2**62, -(2**62)])
def test_instants_that_no_field_holds_are_refused(count: int) -> None:
    """Seconds of another age are a violation, not a crash."""
    far = pa.array([count] * ROWS).cast(pa.timestamp("s", "UTC"))
    assert ROWS == len(refused(with_column("since", far)))


@pytest.mark.parametrize("values", [[[1], [2], [3]], [b"a", b"b", b"c"], [{"a": 1}] * 3], ids=["list", "binary", "map"])
def test_types_that_no_field_takes_are_refused(values: list[Any]) -> None:
    """A column of lists, bytes or structs is told by its type; no value of it is made."""
    [told] = refused(with_column("note", values))
    assert f"got a column of `{pa.array(values).type}` - at `$.columns.note`" in told


def test_the_key_is_in_the_metadata() -> None:
    """`penstock.key` of the stream's schema is what `key` is in JSON."""
    assert "customer-17" == READ(stream(pa.table(COLUMNS).replace_schema_metadata({"penstock.key": "customer-17"}))).key


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_packed_buffers_are_refused(compression: str) -> None:
    """Buffers that name their own unpacked size are not unpacked."""
    with pytest.raises(Unreadable, match="packed buffers"):
        READ(stream(pa.table(COLUMNS), compression=compression))


def test_what_is_no_whole_stream_is_refused() -> None:
    """Cut at any byte, or with more behind it: no row is lost without a word."""
    body = stream(pa.table(COLUMNS))
    for cut in range(len(body)):
        with pytest.raises(Unreadable):
            READ(body[:cut])
    with pytest.raises(Unreadable, match="goes on behind the end"):
        READ(body + body)


def test_a_column_that_stands_twice_is_refused() -> None:
    """Two columns of a name would hide one of them."""
    table = pa.table(COLUMNS)
    with pytest.raises(Unreadable, match="'age' twice"):
        READ(stream(table.append_column("age", table["age"])))


def test_no_rows_and_too_many() -> None:
    """No rows are a violation, too many a limit, however few bytes they take."""
    table = pa.table(COLUMNS)
    assert ["Expected at least one row, got none - at `$.columns`"] == refused(stream(table.slice(0, 0)))
    with pytest.raises(TooLarge, match="more than 50 rows"):
        READ(stream(pa.concat_tables([table] * 20)))
    with pytest.raises(TooLarge, match="more than 50 rows"):
        READ(stream(pa.table({"note": pa.nulls(10**9)}), most=10**9))


def test_one_long_text_in_each_row_is_too_large() -> None:
    """A dictionary does not make a small body into a large record."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int8()), pa.array(["x" * 8000]))
    others = {name: [values[0]] * 40 for name, values in COLUMNS.items() if name != "note"}
    with pytest.raises(TooLarge, match="written out"):
        READ(stream(pa.table({**others, "note": texts})))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), encoded=st.booleans())
def test_a_damaged_stream_is_read_or_refused(data: st.DataObject, encoded: bool) -> None:
    """Whatever some bytes are changed to, there are checked rows or there is a refusal."""
    table = pa.table({**COLUMNS, "note": pa.array(COLUMNS["note"]).dictionary_encode()} if encoded else COLUMNS)
    body = bytearray(stream(table))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from([0, 1, 2, 127, 128, 255]))
    with contextlib.suppress(CallFailure):
        assert 0 < len(READ(bytes(body)).rows) <= MAX_ROWS


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_refused(body: bytes) -> None:
    """What is no stream is the caller's fault."""
    with pytest.raises(CallFailure):
        READ(body + b"\xff\xff\xff\xff\x00\x00\x00\x00")


def test_without_pyarrow_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has no pyarrow says what to install, before anything is read or run."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedMedia, match=r"pip install 'penstock\[arrow\]'"):
        FACE.open(Call(FACE, stream(pa.table(COLUMNS)), 0))
