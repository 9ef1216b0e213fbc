"""`Record`: what happened to one call, as one line of JSON. Built by the hot path, written by `AuditLog`, read by all.

`docs/audit.md` explains it field by field. Only what differs from the default is written.
"""

from __future__ import annotations

from binascii import hexlify
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import astuple

from penstock.audit.commitment import Salts, commitment_of
from penstock.audit.pseudonyms import is_pseudonym
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

    - `kind`: "prediction" (answered), "refusal" (the caller's fault), "failure" (ours), "feedback" (what came true;
      then `request_id` is that of the prediction), "shadow" (what a version that shadows would have said).
      `code`: "ok" or the failure's.
    - `seq`: the record's number within one run of a worker; given by `AuditLog.append`, 0 before.
    - `at`: when the call arrived; an aware datetime in UTC. `queue_ms`, `run_ms`, `total_ms`: milliseconds.
    - `input`: the final features: a list of row structs (encoded under their field names). `raw`: what the caller
      sent, only where it differs. Both as `Masker` returns them. `undeclared`: values dropped because the schema
      does not know their field.
    - `outputs`: what was answered. `decision`: the rule by which its labels were decided, where there is one.
    - `body_bytes`, `body_sha256`: a body that could not be read, as length and hash only.
    - `trace_id`: of the caller's trace, where its `traceparent` names one.
    - `fallback`: what answered in place of the model, and why. `cached`: the response cache answered.
    - `experiment`, `arm`, `bucket`, `weights`: of an experiment, with the weights in force where it was assigned;
      `placed_by`: what gave it its arm in place of its bucket, so that it is no evidence (`assignment.PlacedBy`).
    - `rows`: of this call; `batch_rows`: of the run that this call was a part of.
    - `commitment`, `salt`: of a record that was read; a `commitment` without `salt` is one whose payload was erased.

    In `input`, `raw`, `outputs` and `decision` NaN, infinities and lone surrogates are found and tagged by the
    encoder itself. Bytes and dicts with a key that starts with "$" are not looked for there (it would cost more than
    the encoding): the caller passes `tag(value)`.
    """

    kind: Literal["prediction", "refusal", "failure", "feedback", "shadow"]
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
    experiment: str | None = None
    arm: str | None = None
    bucket: int | None = None
    placed_by: str | None = None
    weights: dict[str, int] | None = None
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
    commitment: str | None = None
    salt: str | None = None

    @property
    def is_erased(self) -> bool:
        """Whether there was a payload, which was erased since."""
        return self.commitment is not None and self.salt is None


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The part of a record that can be erased later, as in `Record`; `key` and `client_id` are here where they are in
    clear.
    """

    input: Content = None
    outputs: Content = None
    raw: Content = None
    violations: tuple[Violation, ...] = ()
    body_sha256: str | None = None
    key: str | None = None
    client_id: str | None = None


class Answered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The record of an answered call but for its `opening` and its payload: what differs from call to call, as in
    `Record`. Made and written in a third of the time of a whole `Record`; read back it is one.
    """

    request_id: str
    at: datetime
    rows: int
    batch_rows: int
    queue_ms: float
    run_ms: float
    total_ms: float
    client_id: str | None = None
    principal: str = "anonymous"
    key: str | None = None
    undeclared: int = 0
    trace_id: str | None = None
    bucket: int | None = None
    placed_by: str | None = None


class _Opening(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    model: str
    version: int
    digest: str
    protocol: str
    decision: Content = None
    experiment: str | None = None
    arm: str | None = None
    weights: dict[str, int] | None = None


class OfArm(msgspec.Struct, frozen=True):
    """What the records of all calls on one arm of an experiment have in common, as in `Record`."""

    experiment: str
    arm: str | None
    weights: dict[str, int]


def opening_of(
    *, model: str, version: int, digest: str, protocol: str, decision: Content = None, of_arm: OfArm | None = None
) -> bytes:
    """What the records of all answers of one version by one protocol, and on one arm, have in common, encoded once for
    `Answered`.
    """
    opening = _Opening("prediction", model, version, digest, protocol, decision)
    if of_arm is not None:
        opening = msgspec.structs.replace(opening, **msgspec.structs.asdict(of_arm))
    return _encoder.encode(opening)[1:-1] + b","


_encoder = msgspec.json.Encoder()
_encode = _encoder.encode
_decoder = msgspec.json.Decoder(Record)
_CONTENTS = ("input", "raw", "outputs", "decision")
_NO_PAYLOAD = Payload()


class Lines:
    """The lines of the records of one tick, numbered from `first` on; the one that comes will have the number `next`.

    `written` is in parts, as they go to the file; `covered` as the chain covers them, each up to its closing brace,
    which `SegmentWriter` adds.
    """

    __slots__ = ("_salts", "covered", "first", "next", "written")

    def __init__(self, salts: Salts, first: int) -> None:
        self._salts = salts
        self.first = self.next = first
        self.written: list[bytes] = []
        self.covered: list[bytes] = []

    def add(self, record: Record | Answered, opening: bytes = b"", payload: Payload | None = None) -> int:
        """Append the line of `record`, and return its number; an `Answered` comes with its opening, and its payload if
        any is kept.

        msgspec writes NaN as null, so a payload with "null" in it is looked at again and, if need be, encoded with
        tags. The line may say null all the same: for a missing value. Raises TypeError for a value of no JSON type;
        nothing is appended then.
        """
        if type(record) is Record:
            record, payload = _parted(record)
        elif payload is None:
            payload = _NO_PAYLOAD
        try:
            head, body = _encode(record), _encode(payload)
            if b"null" in head and not _is_plain(record):
                head = _encode(_with_tags(record))
            if (nulls := body.count(b"null")) and nulls != _missing(payload.input) and not _is_plain(payload):
                body = _encode(_with_tags(payload))
        except UnicodeEncodeError:  # lone surrogates, in the contents or in the envelope
            head, body = _encode(_with_tags(record)), _encode(_with_tags(payload))
        if len(body) == 2:
            return self._append(opening, head, b"}")
        salt = (self._salts.pool or self._salts.filled()).pop()
        return self._append(opening, head, b',"salt":"%b",%b' % (salt, body[1:]))

    def add_answer(self, record: Answered, opening: bytes, rows: Content, outputs: bytes) -> int:
        """The same for an answer of which rows and outputs are kept, and no more: for the hot path, in less time.
        `outputs` is JSON.
        """
        try:
            head, inputs = _encode(record), _encode(rows)
        except UnicodeEncodeError:
            return self.add(record, opening, Payload(rows, msgspec.Raw(outputs)))
        if (nulls := inputs.count(b"null")) and nulls != _missing(rows):
            return self.add(record, opening, Payload(rows, msgspec.Raw(outputs)))
        # As `_append` and `commitment_of` do it: two calls less are worth the lines here.
        salt = (self._salts.pool or self._salts.filled()).pop()
        tail = b',"salt":"%b","input":%b,"outputs":%b}' % (salt, inputs, outputs)
        seq, commitment = self.next, hexlify(sha256(tail).digest())
        envelope = b'{"seq":%d,%b%b,"commitment":"%b"' % (seq, opening, head[1:-1], commitment)
        self.covered.append(envelope)
        self.written += (envelope, tail, b"\n")
        self.next = seq + 1
        return seq

    def _append(self, opening: bytes, head: bytes, tail: bytes) -> int:
        """The line of the envelope `head`, an object, and its salted payload `tail`: a brace if it has none."""
        seq = self.next
        if len(tail) == 1:
            envelope = b'{"seq":%d,%b%b' % (seq, opening, head[1:-1])
        else:
            envelope = b'{"seq":%d,%b%b,"commitment":"%b"' % (seq, opening, head[1:-1], commitment_of(tail))
        self.covered.append(envelope)
        self.written += (envelope, tail, b"\n")
        self.next = seq + 1
        return seq


def line_of(record: Record, seq: int) -> bytes:
    """The line of one record, numbered `seq`."""
    lines = Lines(Salts(), seq)
    lines.add(record)
    return b"".join(lines.written)


def read_record(line: bytes) -> Record:
    """The record that was written as `line`, with its tags undone. Raises SegmentError if it is not one."""
    try:
        record = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SegmentError(f"Expected a line that holds an audit record, got something else: {error}") from error
    if b'"$' not in line:
        return record
    return msgspec.structs.replace(record, **{name: untag(getattr(record, name)) for name in _CONTENTS})


def _parted(record: Record) -> tuple[Record, Payload]:
    """The envelope of a whole record, and its payload. What is no pseudonym is in clear, so it can be erased."""
    key, client_id = record.key, record.client_id
    is_key_clear, is_client_clear = not is_pseudonym(key), not is_pseudonym(client_id)
    payload = Payload(
        record.input,
        record.outputs,
        record.raw,
        record.violations,
        record.body_sha256,
        key if is_key_clear else None,
        client_id if is_client_clear else None,
    )
    envelope = msgspec.structs.replace(
        record,
        seq=0,
        input=None,
        outputs=None,
        raw=None,
        violations=(),
        body_sha256=None,
        key=None if is_key_clear else key,
        client_id=None if is_client_clear else client_id,
        commitment=None,
        salt=None,
    )
    return envelope, payload


def _missing(rows: Content) -> int:
    """How many values of row structs are missing; -1 for anything else."""
    missing = 0
    try:
        for row in rows:
            for value in astuple(row):
                if value is None:
                    missing += 1
    except TypeError:
        return -1
    return missing


def _is_plain(record: msgspec.Struct) -> bool:
    return is_plain(tuple(getattr(record, name, None) for name in _CONTENTS))


def _with_tags(record: msgspec.Struct) -> msgspec.Struct:
    """The same with its contents encoded by the slow path, and its other texts such that UTF-8 takes them."""
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
