"""The one place of the sealed schema: lines of records to an Arrow table, and back. Home of pyarrow's types here.

A row is a record: its envelope in typed columns, its line in two texts of JSON (`envelope`, `payload`: lossless, so
the chain can be proven from them), and typed lists with an element for each row of the call: `feature_<name>`,
`prediction_<member>`. Of an erased record all that was in the payload is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, TypeAlias

import msgspec
import pyarrow as pa

from penstock.audit.commitment import is_blank, parted
from penstock.audit.record import FellBack, Record, read_record
from penstock.audit.sealed import is_model
from penstock.audit.typed_lists import FEATURE, PREDICTION, typed_lists
from penstock.errors import SegmentError

FORMAT: Final = 1
_NOTHING: Final = msgspec.Raw(b"")
_CHUNK_RECORDS: Final = 20_000


class Source(msgspec.Struct, frozen=True):
    """Which worker's run the lines are of."""

    worker: int
    run: str


class Detail(msgspec.Struct, frozen=True):
    """What a table has besides the envelopes: `texts` (the lines, as `envelope` and `payload`; else null), and the
    `typed` lists. Each takes about as long to make as the rest.
    """

    texts: bool = True
    typed: bool = True


ALL: Final = Detail()


class _Envelope(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of a `Record` has a column of its own. `at` stays text: Arrow reads it faster than Python does."""

    seq: int
    kind: str
    request_id: str
    at: str
    client_id: str | None = None
    trace_id: str | None = None
    principal: str = "anonymous"
    model: str | None = None
    version: int | str | None = None
    digest: str | None = None
    protocol: str | None = None
    key: str | None = None
    experiment: str | None = None
    arm: str | None = None
    bucket: int | None = None
    placed_by: str | None = None
    weights: msgspec.Raw = _NOTHING
    code: str = "ok"
    undeclared: int = 0
    body_bytes: int | None = None
    body_sha256: str | None = None
    rows: int = 0
    batch_rows: int = 0
    queue_ms: float = 0.0
    run_ms: float = 0.0
    total_ms: float = 0.0
    fallback: FellBack | None = None
    cached: bool = False


class _Line(_Envelope, frozen=True, kw_only=True, gc=False):
    """The same with the rows, not decoded."""

    input: msgspec.Raw = _NOTHING
    outputs: msgspec.Raw = _NOTHING


_Decode: TypeAlias = Callable[[bytes], _Envelope]
_decode: Final = msgspec.json.Decoder(_Line).decode
_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode

_WORD: Final = pa.dictionary(pa.int32(), pa.string())
_TEXT: Final = pa.string()
_MOMENT: Final = pa.timestamp("us", "UTC")
_DAY: Final = len("2026-11-20")


# Column, Arrow type, and what it is of a line; in the order of the files. `worker` and `run` come before them.
_ENVELOPE: Final[tuple[tuple[str, pa.DataType, Callable[[_Envelope], Any]], ...]] = (
    ("seq", pa.int64(), attrgetter("seq")),
    ("request_id", _TEXT, attrgetter("request_id")),
    ("arrived_at", _MOMENT, attrgetter("at")),
    ("kind", _WORD, attrgetter("kind")),
    ("code", _WORD, attrgetter("code")),
    ("model", _WORD, attrgetter("model")),
    ("version", pa.int64(), lambda line: line.version if type(line.version) is int else None),
    ("version_asked", _TEXT, lambda line: line.version if type(line.version) is str else None),
    ("digest", _WORD, attrgetter("digest")),
    ("protocol", _WORD, attrgetter("protocol")),
    ("principal", _WORD, attrgetter("principal")),
    ("client_id", _TEXT, attrgetter("client_id")),
    ("trace_id", _TEXT, attrgetter("trace_id")),
    ("key", _TEXT, attrgetter("key")),
    ("experiment", _WORD, attrgetter("experiment")),
    ("arm", _WORD, attrgetter("arm")),
    ("bucket", pa.int32(), attrgetter("bucket")),
    ("placed_by", _WORD, attrgetter("placed_by")),
    ("weights", _WORD, lambda line: bytes(line.weights).decode() or None),
    ("cached", pa.bool_(), attrgetter("cached")),
    ("fallback_kind", _WORD, lambda line: line.fallback and line.fallback.kind),
    ("fallback_code", _WORD, lambda line: line.fallback and line.fallback.code),
    ("fallback_version", pa.int64(), lambda line: line.fallback and line.fallback.version),
    ("rows", pa.int64(), attrgetter("rows")),
    ("batch_rows", pa.int64(), attrgetter("batch_rows")),
    ("queue_ms", pa.float64(), attrgetter("queue_ms")),
    ("run_ms", pa.float64(), attrgetter("run_ms")),
    ("total_ms", pa.float64(), attrgetter("total_ms")),
    ("undeclared", pa.int64(), attrgetter("undeclared")),
    ("body_bytes", pa.int64(), attrgetter("body_bytes")),
    ("body_sha256", _TEXT, attrgetter("body_sha256")),
)
ENVELOPE_SCHEMA: Final = pa.schema(
    [
        ("worker", pa.int32()),
        ("run", _WORD),
        *((name, kind) for name, kind, _ in _ENVELOPE),
        ("ends_write", pa.bool_()),
        ("envelope", _TEXT),
        ("payload", _TEXT),
    ]
)
"""The columns that every sealed file has; the typed lists follow, those that its records have values for."""


class Group(msgspec.Struct, frozen=True, order=True):
    """What goes into one file: the records of a model (empty: what no version was found for) of one day (UTC)."""

    model: str
    day: str


class _Taken(msgspec.Struct, frozen=True, gc=False):
    """A line, and what it says. `ends_write`: a commit line follows it."""

    record: _Envelope
    line: bytes
    ends_write: bool


class Gathering:
    """Takes the lines of one segment, and gives a table for each group of them. Not thread-safe."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._waiting: dict[Group, list[_Taken]] = {}
        self._tables: dict[Group, list[pa.Table]] = {}
        self.records = 0

    def take(self, line: bytes, *, ends_write: bool = False) -> None:
        """One committed line of a record. Raises SegmentError for any other."""
        [record] = _decoded([line], _decode)
        # What was asked for and is not there has no file of its own: anybody can ask for names without end. Feedback
        # that names a model was taken because that model was served.
        is_served = (record.digest is not None or record.kind == "feedback") and is_model(record.model)
        group = Group(record.model or "" if is_served else "", record.at[:_DAY])
        waiting = self._waiting.setdefault(group, [])
        waiting.append(_Taken(record, line, ends_write))
        self.records += 1
        if len(waiting) >= _CHUNK_RECORDS:
            self._settle(group)

    def tables(self) -> Iterator[tuple[Group, pa.Table]]:
        """What was taken, by group; the records of each in the order of taking."""
        for group in sorted(self._waiting):
            self._settle(group)
            yield group, joined(self._tables.pop(group))

    def _settle(self, group: Group) -> None:
        taken = self._waiting[group]
        if taken:
            table = _table([each.record for each in taken], [each.line for each in taken], self._source, ALL)
            ends = pa.array([each.ends_write for each in taken], pa.bool_())
            table = table.set_column(table.column_names.index("ends_write"), "ends_write", ends)
            self._tables.setdefault(group, []).append(table)
            self._waiting[group] = []


def table_of(lines: Sequence[bytes], source: Source, detail: Detail = ALL) -> pa.Table:
    """Committed lines of a run as one table, in their order, whatever model and day they are of; `ends_write` is not
    looked at. Raises SegmentError.
    """
    return _table(_decoded(lines, _decode if detail.typed else _decode_envelope), lines, source, detail)


def _decoded(lines: Sequence[bytes], decode: _Decode) -> list[_Envelope]:
    try:
        return [decode(line) for line in lines]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SegmentError(f"Expected a line that holds an audit record, got something else: {error}") from error


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables as one; a typed column takes the widest type that any of them has, in the end text."""
    names = {name.casefold(): name for table in tables for name in table.column_names[len(ENVELOPE_SCHEMA) :]}
    kinds: dict[str, pa.DataType] = {}
    for table in tables:
        for field in list(table.schema)[len(ENVELOPE_SCHEMA) :]:
            kind = field.type.value_type
            kinds[field.name] = _wider(kinds.get(field.name, kind), kind)
    typed = pa.schema([(name, pa.list_(kinds[name])) for name in names.values()])
    schema = pa.unify_schemas([ENVELOPE_SCHEMA, typed])
    return pa.concat_tables([_as(schema, table) for table in tables]) if tables else schema.empty_table()


def records_of(table: pa.Table) -> Iterator[Record]:
    """The records of a table, as they were written. Raises SegmentError for a table that is none of ours."""
    for line in lines_of(table):
        yield read_record(line)


def lines_of(table: pa.Table) -> Iterator[bytes]:
    """The line of each record of a table, to the byte; erased, it ends behind the commitment."""
    for line, _ in written(table):
        yield line


def written(table: pa.Table) -> Iterator[tuple[bytes, bool]]:
    """The same, with whether a commit line followed it."""
    missing = set(ENVELOPE_SCHEMA.names) - set(table.column_names)
    if missing:
        raise SegmentError(f"Expected a table of audit records, got one without {', '.join(sorted(missing))}")
    for batch in table.select(["envelope", "payload", "ends_write"]).to_batches(_CHUNK_RECORDS):
        for envelope, payload, ends in zip(*(batch.column(at).to_pylist() for at in range(3)), strict=True):
            text = envelope if payload is None else f"{envelope[:-1]},{payload[1:]}"
            yield text.encode() + b"\n", ends


def _texts(line: bytes) -> tuple[bytes, bytes | None]:
    """Envelope and payload of a line, each as an object of JSON."""
    head, tail = parted(line)
    if tail is None:
        return head[:-1], None
    return head + b"}", None if is_blank(tail) else b"{" + tail[1:]


def _table(records: Sequence[_Envelope], lines: Sequence[bytes], source: Source, detail: Detail) -> pa.Table:
    count = len(records)
    arrays = [pa.repeat(pa.scalar(source.worker, pa.int32()), count), _repeated(source.run, count)]
    arrays += [_column(list(map(of, records)), kind) for _, kind, of in _ENVELOPE]
    arrays.append(pa.repeat(pa.scalar(False), count))
    texts = list(map(_texts, lines)) if detail.texts else []
    arrays += [pa.array([each[at] for each in texts], _TEXT) if texts else pa.nulls(count, _TEXT) for at in (0, 1)]
    table = pa.table(arrays, schema=ENVELOPE_SCHEMA)
    if not detail.typed:
        return table
    for prefix, name in ((FEATURE, "input"), (PREDICTION, "outputs")):
        # What feedback says is no feature, and must not change the type of one of the same name.
        contents = [_NOTHING if record.kind == "feedback" else getattr(record, name) for record in records]
        for column, array in typed_lists(prefix, contents):
            table = table.append_column(column, array)
    return table


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """`values` as an array of one of the envelope's types. Most columns hold one value only, which is made once."""
    if values and values.count(values[0]) == len(values):
        return _repeated(values[0], len(values)) if kind == _WORD else pa.repeat(_scalar(values[0], kind), len(values))
    if kind == _WORD:
        return pa.array(values, _TEXT).dictionary_encode()
    if kind == _MOMENT:
        return _moments(values)
    return pa.array(values, kind)


def _repeated(word: str | None, count: int) -> pa.DictionaryArray:
    places = pa.repeat(pa.scalar(None if word is None else 0, pa.int32()), count)
    return pa.DictionaryArray.from_arrays(places, pa.array([] if word is None else [word], _TEXT))


def _scalar(value: Any, kind: pa.DataType) -> pa.Scalar:
    return _moments([value])[0] if kind == _MOMENT else pa.scalar(value, kind)


def _moments(texts: list[str]) -> pa.Array:
    try:
        return pa.array(texts, _TEXT).cast(_MOMENT)
    except pa.ArrowInvalid as error:
        raise SegmentError(f"Expected audit records with RFC 3339 times, got another: {error}") from error


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    return pa.float64() if {first, second} == {pa.int64(), pa.float64()} else _TEXT


def _as(schema: pa.Schema, table: pa.Table) -> pa.Table:
    if table.schema.equals(schema):
        return table
    arrays = []
    for field in schema:
        if field.name in table.column_names:
            column = table.column(field.name)
            arrays.append(column if column.type == field.type else column.cast(field.type))
        else:
            arrays.append(pa.nulls(len(table), field.type))
    return pa.table(arrays, schema=schema)
