"""Arrow's IPC stream to columns of plain values, and predictions to such a stream; the server's home of pyarrow.

What comes is not trusted: every buffer is validated, packed buffers are refused (they say themselves how much memory
they take), and nothing is made longer than the rows of a call. Format: https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import msgspec
import numpy as np

from penstock.errors import MissingExtra, SchemaViolation, TooLarge, Unreadable, Violation
from penstock.schema import Schema
from penstock.schema.instant import EPOCH
from penstock.schema.wording import expected_of, step_to
from penstock.server.call import Reply

KEY: Final = b"penstock.key"
"""The member of a stream's metadata that names the entity, as `key` does in a JSON body."""

_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_MOST_MESSAGES: Final = 4096
_DICTIONARY, _RECORDS = 2, 3  # kinds of a message's header
_COMPRESSION: Final = 3  # the number of the field that says how a record batch's buffers are packed
_UNITS: Final = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}


class Stream(msgspec.Struct, frozen=True):
    """What a stream holds: a list of plain values per column, all of `rows` values, in the order of the stream."""

    columns: dict[str, list[Any]]
    rows: int
    key: str | None


def pyarrow() -> Any:
    """The library. Raises MissingExtra."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise MissingExtra("pyarrow", "arrow", "application/vnd.apache.arrow.stream") from None
    return pyarrow


def read_stream(body: bytes, schema: Schema, max_rows: int, max_bytes: int) -> Stream:
    """The columns of `schema` in `body`; of a column that the schema does not know only that it is there.

    Raises Unreadable (no whole stream, packed buffers, a column twice), SchemaViolation (a column of a type that no
    field takes), TooLarge (more than `max_rows`; texts of more than `max_bytes` once they are written out).
    """
    arrow = pyarrow()
    try:
        return _read(arrow, body, schema, Limits(max_rows, max_bytes))
    except (arrow.ArrowException, OSError, LookupError, OverflowError, ValueError, struct.error) as error:
        raise Unreadable(f"the body is no Arrow IPC stream: {str(error)[:200]}") from None


class Limits(msgspec.Struct, frozen=True):
    """How much of a stream is taken."""

    rows: int
    bytes: int


def _read(arrow: Any, body: bytes, schema: Schema, limits: Limits) -> Stream:
    if not body.endswith(_END):
        raise Unreadable("the Arrow stream is cut off: it has no end mark (close the writer before sending)")
    for message in _messages(arrow, body):
        if _is_packed(message.metadata.to_pybytes()):
            raise Unreadable("the Arrow stream has packed buffers: write it without compression, or pack the body")
    source = arrow.BufferReader(body)
    reader = arrow.ipc.open_stream(source)
    names: list[str] = reader.schema.names
    _require_columns(arrow, reader.schema, schema)
    known = [name for name in names if name in schema.names]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    rows = written_bytes = 0
    for batch in reader:
        rows += batch.num_rows
        if rows > limits.rows:
            raise TooLarge(f"more than {limits.rows} rows in one call (server.max_rows): send them in several calls")
        batch.validate(full=True)
        for name in known:
            array = batch.column(names.index(name))
            values = _values(arrow, array)
            columns[name] += values
            if arrow.types.is_dictionary(array.type):
                written_bytes += sum(len(value) for value in values if isinstance(value, str))
        # One long text, named in each row, would be written out in each record.
        if written_bytes > limits.bytes:
            raise TooLarge(f"written out, the texts are larger than server.max_body_bytes, which is {limits.bytes}")
    if source.tell() != len(body):
        raise Unreadable(f"the body goes on behind the end of its Arrow stream (byte {source.tell()})")
    key = (reader.schema.metadata or {}).get(KEY)
    return Stream(columns, rows, None if key is None else key.decode("utf-8", "replace"))


def _messages(arrow: Any, body: bytes) -> Iterator[Any]:
    for number, message in enumerate(arrow.ipc.MessageReader.open_stream(arrow.py_buffer(body))):
        if number == _MOST_MESSAGES:
            raise Unreadable(f"the Arrow stream has more than {_MOST_MESSAGES} messages: send larger record batches")
        yield message


def _is_packed(metadata: bytes) -> bool:
    """Whether the buffers of a message are packed; reads as much of its FlatBuffers table as says so.

    pyarrow would unpack them to whatever length they claim. The table has been verified by then.
    """
    message = _offset(metadata, 0)
    kind_at, header_at = _field(metadata, message, 1), _field(metadata, message, 2)
    if not kind_at or not header_at or metadata[kind_at] not in (_DICTIONARY, _RECORDS):
        return False
    batch = _offset(metadata, header_at)
    if metadata[kind_at] == _DICTIONARY:
        data_at = _field(metadata, batch, 1)
        if not data_at:
            return False
        batch = _offset(metadata, data_at)
    return bool(_field(metadata, batch, _COMPRESSION))


def _offset(table: bytes, at: int) -> int:
    step: int = struct.unpack_from("<I", table, at)[0]
    return at + step


def _field(table: bytes, at: int, number: int) -> int:
    """Where a field of the table at `at` stands; 0 if it is not there."""
    layout = at - struct.unpack_from("<i", table, at)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", table, layout)[0]:
        return 0
    step: int = struct.unpack_from("<H", table, layout + slot)[0]
    return at + step if step else 0


def _require_columns(arrow: Any, found: Any, schema: Schema) -> None:
    """Refuse names that stand twice, and types that no value of a row is made from."""
    names: list[str] = found.names
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise Unreadable(f"the Arrow stream has the column {twice[:80]!r} twice: drop one of them")
    kinds = {field: found.field(field.name).type for field in schema.fields if field.name in names}
    wrong = [
        Violation(f"$.columns{step_to(field.name)}", expected_of(field), f"a column of `{kind}`")
        for field, kind in kinds.items()
        if not _is_plain(arrow, kind)
    ]
    if wrong:
        raise SchemaViolation(wrong)


def _is_plain(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    if types.is_dictionary(kind):
        return not types.is_null(kind.value_type) and _is_plain(arrow, kind.value_type)
    return any(
        is_kind(kind)
        for is_kind in (
            types.is_integer,
            types.is_floating,
            types.is_boolean,
            types.is_string,
            types.is_large_string,
            types.is_timestamp,
            types.is_decimal,
            types.is_null,
        )
    )


def _values(arrow: Any, array: Any) -> list[Any]:
    """The values of one column as JSON would have carried them; NaN is null, an instant a datetime in UTC."""
    types, kind = arrow.types, array.type
    if types.is_dictionary(kind):
        return _looked_up(arrow, array)
    if types.is_null(kind):
        return [None] * len(array)
    if types.is_string(kind) or types.is_large_string(kind):
        texts: list[Any] = array.to_pylist()
        return texts
    if types.is_timestamp(kind):
        return _instants(arrow, array)
    if types.is_decimal(kind):
        array = array.cast(arrow.float64())
    return _numbers(array)


def _numbers(array: Any) -> list[Any]:
    missing = array.is_null().to_numpy(zero_copy_only=False)
    held = array.fill_null(False if str(array.type) == "bool" else 0) if missing.any() else array
    numbers = held.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind == "f":
        missing = missing | np.isnan(numbers)
    values: list[Any] = numbers.tolist()
    for position in np.flatnonzero(missing).tolist():
        values[position] = None
    return values


def _looked_up(arrow: Any, array: Any) -> list[Any]:
    """Values by their place in a dictionary, of which only those that are used are made."""
    indices = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used, places = np.unique(indices[indices >= 0], return_inverse=True)
    values = np.empty(len(used), dtype=object)
    values[:] = _values(arrow, array.dictionary.take(arrow.array(used)))
    found = np.full(len(indices), None, dtype=object)
    found[indices >= 0] = values[places]
    listed: list[Any] = found.tolist()
    return listed


def _instants(arrow: Any, array: Any) -> list[Any]:
    """Instants in UTC, nanoseconds rounded; text for what has no zone, a number for what no datetime holds."""
    times, over = _UNITS[array.type.unit]
    counts = _numbers(array.cast(arrow.int64()))
    is_naive = array.type.tz is None
    values: list[Any] = []
    for count in counts:
        if count is None:
            values.append(None)
            continue
        try:
            instant = EPOCH + timedelta(microseconds=count * times if over == 1 else (count + over // 2) // over)
        except OverflowError:
            values.append(count)
            continue
        values.append(instant.replace(tzinfo=None).isoformat() if is_naive else instant)
    return values


def write_stream(reply: Reply) -> bytes:
    """Predictions as a stream of one batch: `label`, `probabilities.<class>`, `value`, `values.<target>`; what
    answered is in the stream's metadata.
    """
    arrow = pyarrow()
    predictions, columns = reply.predictions, {}
    first = predictions[0]
    if first.label is not None or (first.value is None and first.values is None):
        columns["label"] = arrow.array([prediction.label for prediction in predictions])
    for member in ("probabilities", "values"):
        for name in getattr(first, member) or ():
            numbers = [getattr(prediction, member)[name] for prediction in predictions]
            columns[f"{member}.{name}"] = arrow.array(numbers, arrow.float64())
    if first.value is not None:
        columns["value"] = arrow.array([prediction.value for prediction in predictions], arrow.float64())
    batch = arrow.record_batch(columns).replace_schema_metadata(_metadata(reply))
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _metadata(reply: Reply) -> dict[str, str]:
    model = reply.answerer
    about = {
        "model": model.name,
        "version": str(model.version),
        "digest": model.digest,
        "request_id": reply.request_id,
        "latency_ms": f"{reply.latency_ms:.3f}",
    }
    if reply.fallback is not None:
        about["fallback"] = reply.fallback.kind
    return {**about, "cached": "true"} if reply.is_cached else about
