"""`Record`: what happened to one call, as one line of JSON. Built by the hot path, written by `AuditLog`, read by all.

`docs/audit.md` explains it field by field. Only what differs from the default is written.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import astuple

from penstock.audit.tags import is_plain, tag, untag
from penstock.errors import SegmentError, Violation

Content: TypeAlias = Any
"""Anything of JSON types, bytes and structs; or `msgspec.Raw`, already encoded (what `tag` returns)."""


class FellBack(msgspec.Struct, frozen=True):
    """Why a fallback answered: its `kind`, the `code` of the failure that it covers, the `version` that failed."""

    kind: str
    code: str
    version: int


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One call and how it ended. `gc=False`: it is made per request and holds no cycles.

    - `kind`: "prediction" (answered), "refusal" (the caller's fault), "failure" (ours). `code`: "ok" or the failure's.
    - `seq`: the record's number within one run of a worker; given by `AuditLog.append`, 0 before.
    - `at`: when the call arrived; an aware datetime in UTC. `queue_ms`, `run_ms`, `total_ms`: milliseconds.
    - `input`: the final features: a list of row structs (encoded under their field names). `raw`: what the caller
      sent, only where it differs. Both as `Masker` returns them. `undeclared`: values dropped because the schema
      does not know their field.
    - `outputs`: what was answered. `decision`: the rule by which its labels were decided, where there is one.
    - `body_bytes`, `body_sha256`: a body that could not be read, as length and hash only.
    - `trace_id`: of the caller's trace, where its `traceparent` names one.
    - `fallback`: what answered in place of the model, and why. `cached`: the response cache answered.
    - `rows`: of this call; `batch_rows`: of the run that this call was a part of.

    In `input`, `raw`, `outputs` and `decision` NaN, infinities and lone surrogates are found and tagged by the
    encoder itself. Bytes and dicts with a key that starts with "$" are not looked for there (it would cost more than
    the encoding): the caller passes `tag(value)`.
    """

    kind: Literal["prediction", "refusal", "failure"]
    seq: int = 0
    request_id: str
    at: datetime
    client_id: str | None = None
    trace_id: str | None = None
    principal: str = "anonymous"
    model: str | None = None
    version: int | str | None = None
    digest: str | None = None
    protocol: str | None = None
    key: str | None = None
    arm: str | None = None
    code: str = "ok"
    input: Content = None
    raw: Content = None
    undeclared: int = 0
    outputs: Content = None
    decision: Content = None
    violations: tuple[Violation, ...] = ()
    body_bytes: int | None = None
    body_sha256: str | None = None
    rows: int = 0
    batch_rows: int = 0
    queue_ms: float = 0.0
    run_ms: float = 0.0
    total_ms: float = 0.0
    fallback: FellBack | None = None
    cached: bool = False


class Answered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The record of an answered call but for its `opening`: what differs from call to call, as in `Record`.

    Made and written in a third of the time of a whole `Record`; read back it is one.
    """

    request_id: str
    at: datetime
    input: Content
    outputs: Content
    rows: int
    batch_rows: int
    queue_ms: float
    run_ms: float
    total_ms: float
    client_id: str | None = None
    principal: str = "anonymous"
    key: str | None = None
    raw: Content = None
    undeclared: int = 0
    trace_id: str | None = None


class _Opening(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    model: str
    version: int
    digest: str
    protocol: str
    decision: Content = None


def opening_of(*, model: str, version: int, digest: str, protocol: str, decision: Content = None) -> bytes:
    """What the records of all answers of one version by one protocol have in common, encoded once for `Answered`."""
    return _encoder.encode(_Opening("prediction", model, version, digest, protocol, decision))[1:-1] + b","


_encoder = msgspec.json.Encoder()
_encode_into = _encoder.encode_into
_decoder = msgspec.json.Decoder(Record)
_CONTENTS = ("input", "raw", "outputs", "decision")
_COMMA = ord(",")


def write_record(record: Record | Answered, seq: int, buffer: bytearray, opening: bytes = b"") -> None:
    """Append the line of `record`, numbered `seq`, to `buffer`, newline included; `opening` is that of an `Answered`.

    msgspec writes NaN as null, so a line with "null" in it is looked at again and, if need be, encoded with tags. The
    line may say null all the same: for a missing value. Raises TypeError for a value of no JSON type; the buffer is
    then as it was.
    """
    start = len(buffer)
    buffer.extend(b'{"seq":%d,%b' % (seq, opening))
    join = len(buffer) - 1
    try:
        _encode_into(record, buffer, join)
        nulls = buffer.count(b"null", join)
        if nulls and nulls != _missing(record.input) and not _is_plain(record):
            _encode_into(_with_tags(record), buffer, join)
    except UnicodeEncodeError:  # lone surrogates, in the contents or in the envelope
        del buffer[start:]
        _write_tagged(record, seq, buffer, opening)
        return
    except BaseException:
        del buffer[start:]
        raise
    buffer[join] = _COMMA  # over the opening brace of the record: the sequence number comes first
    buffer.extend(b"\n")


def read_record(line: bytes) -> Record:
    """The record that was written as `line`, with its tags undone. Raises SegmentError if it is not one."""
    try:
        record = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SegmentError(f"Expected a line that holds an audit record, got something else: {error}") from error
    if b'"$' not in line:
        return record
    return msgspec.structs.replace(record, **{name: untag(getattr(record, name)) for name in _CONTENTS})


def _write_tagged(record: Record | Answered, seq: int, buffer: bytearray, opening: bytes) -> None:
    """As `write_record`, by the slow path."""
    buffer.extend(b'{"seq":%d,%b%b\n' % (seq, opening, _encoder.encode(_with_tags(record))[1:]))


def _missing(rows: Content) -> int:
    """How many values of row structs are missing; -1 for anything else."""
    try:
        return sum([astuple(row).count(None) for row in rows])
    except TypeError:
        return -1


def _is_plain(record: Record | Answered) -> bool:
    return is_plain(tuple(getattr(record, name, None) for name in _CONTENTS))


def _with_tags(record: Record | Answered) -> Record | Answered:
    """The same record with its contents encoded by the slow path, and its other texts such that UTF-8 takes them."""
    changes = {name: _safe(name, value) for name, value in msgspec.structs.asdict(record).items() if value is not None}
    return msgspec.structs.replace(record, **changes)


def _safe(name: str, value: Content) -> Content:
    if name in _CONTENTS:
        return tag(value)
    if name == "violations":
        return tuple(Violation(_text(each.path), _text(each.expected), _text(each.got)) for each in value)
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """`value` with lone surrogates spelled out: whatever a caller sends as a name, the record can be written."""
    return value.encode(errors="backslashreplace").decode()
