"""Lines of the log as a candidate's rows and the recorded answers: typed at once where that goes, carefully elsewhere.

The decoder is made for one candidate: final features become its row structs and answers structs of its outputs, which
costs as much as decoding the envelope alone. Lines with tags, with other fields or with other classes take the careful
way, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from penstock.audit.record import Record, read_record
from penstock.audit.tags import Masked
from penstock.bundle.outputs import OutputSpec
from penstock.schema import Check, Schema

_NOTHING: Final = msgspec.Raw(b"")


class Seen(msgspec.Struct, kw_only=True, gc=False):
    """The envelope of a record, as `Record` has it; alone, it is of a call that is not asked for."""

    seq: int
    at: datetime
    kind: str = ""
    request_id: str = ""
    model: str | None = None
    version: int | str | None = None
    digest: str | None = None
    key: str | None = None
    rows: int = 0
    batch_rows: int = 0
    run_ms: float = 0.0
    fallback: dict[str, Any] | None = None
    decision: msgspec.Raw = _NOTHING


class Line(Seen, kw_only=True, gc=False):
    """A record whose rows are the candidate's row structs, and whose answers are structs (None: not kept)."""

    input: list[Any] | None = None
    outputs: list[Any] | None = None


class Careful(Seen, kw_only=True, gc=False):
    """A record that has to be read row by row."""

    record: Record


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are asked for: answered calls of a model, that arrived from `since` on and before `until`; with a
    `digest`, only those that this content had answered.
    """

    model: str
    since: datetime | None = None
    until: datetime | None = None
    digest: str | None = None


def line_decoder(
    check: Check, outputs: OutputSpec, asked: Asked, *, is_whole: bool = False, is_wide: bool = False
) -> Callable[[bytes], Seen]:
    """A function that makes a `Line` or a `Careful` of a line of the log; of one that is not asked for, a `Seen`.

    `is_whole`: what was sent is wanted where the record has it. `is_wide`: so are fields that `check` does not know.
    The function raises SegmentError for what is no record.
    """
    plain = msgspec.json.Decoder(Seen).decode
    input_type: Any = list[check.row] | None  # type: ignore[name-defined]
    outputs_type: Any = list[answer_type(outputs)] | None  # type: ignore[misc]
    line = msgspec.defstruct(
        "Typed", [("input", input_type, None), ("outputs", outputs_type, None)], bases=(Line,), kw_only=True, gc=False
    )
    typed: Callable[[bytes], Any] = msgspec.json.Decoder(line).decode
    model = b'"model":' + msgspec.json.encode(asked.model)
    since, until = asked.since, asked.until
    marks = (model, b'"kind":"prediction"', *(() if asked.digest is None else (asked.digest.encode(),)))

    def is_asked(seen: Seen | Record) -> bool:
        return (
            seen.model == asked.model
            and seen.kind == "prediction"
            and (asked.digest is None or seen.digest == asked.digest)
        )

    def decode(data: bytes) -> Seen:
        for mark in marks:
            if mark not in data:
                return _passed(data)
        try:
            # One byte is found much faster than two, of which the first is everywhere.
            is_tagged = b"$" in data and b'"$' in data
            if is_tagged or is_wide or (is_whole and b'"raw":' in data):
                seen = careful(data)
            else:
                seen = typed(data)
                if not is_asked(seen):  # the marks stood in a row
                    return Seen(seq=seen.seq, at=seen.at)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            seen = careful(data)
        if (since is not None and seen.at < since) or (until is not None and seen.at >= until):
            return Seen(seq=seen.seq, at=seen.at)
        return seen

    def careful(data: bytes) -> Seen:
        record = read_record(data)
        if not is_asked(record):
            return Seen(seq=record.seq, at=record.at)
        envelope = plain(data)
        return Careful(
            **{name: getattr(envelope, name) for name in envelope.__struct_fields__},
            record=record,
        )

    return decode


def answer_type(outputs: OutputSpec) -> type[msgspec.Struct]:
    """The struct of a recorded answer of these outputs: `label`, `probabilities` (a struct of p0, p1, … in the order of
    the classes), `value`, `values` (t0, t1, …), whichever there are.
    """
    fields: list[tuple[str, Any]] = []
    if outputs.kind in ("classification", "anomaly"):
        fields.append(("label", bool | int | str | None))
    if outputs.has_probabilities:
        fields.append(("probabilities", _numbers("p", outputs.class_keys)))
    if outputs.targets:
        fields.append(("values", _numbers("t", outputs.targets)))
    elif outputs.kind != "classification":
        fields.append(("value", float))
    made = [(name, kind, None) if name == "label" else (name, kind) for name, kind in fields]
    return msgspec.defstruct("Answer", made, forbid_unknown_fields=True, kw_only=True, gc=False)


def lenient(schema: Schema) -> Schema:
    """The schema, for final features of another version: what it does not know is no fault of theirs."""
    return msgspec.structs.replace(schema, on_extra="ignore")


class Lacks(msgspec.Struct, frozen=True):
    """Why a row cannot be scored: fields that were masked, and fields that the record does not have."""

    masked: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def fitted(row: Any, schema: Schema) -> dict[str, Any] | Lacks:
    """A recorded row (an object, or a list in the schema's order) as an object for the candidate's check."""
    if isinstance(row, list):
        row = dict(zip(schema.names, row, strict=False))
    if not isinstance(row, dict):  # a row of no known shape
        return Lacks(missing=schema.names)
    masked = tuple(name for name in schema.names if isinstance(row.get(name), Masked))
    missing = tuple(field.name for field in schema.fields if field.name not in row and field.default is msgspec.UNSET)
    if masked or missing:
        return Lacks(masked, missing)
    return {name: value for name, value in row.items() if not isinstance(value, Masked)}


def _numbers(letter: str, names: Sequence[str]) -> type[msgspec.Struct]:
    fields = [(f"{letter}{place}", float, msgspec.field(name=name)) for place, name in enumerate(names)]
    return msgspec.defstruct("Numbers", fields, forbid_unknown_fields=True, gc=False)


def _passed(data: bytes) -> Seen:
    try:
        return _place(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        record = read_record(data)  # which says what is wrong
        return Seen(seq=record.seq, at=record.at)


class _Place(msgspec.Struct, gc=False):
    seq: int
    at: datetime


_decode_place = msgspec.json.Decoder(_Place).decode


def _place(data: bytes) -> Seen:
    place = _decode_place(data)
    return Seen(seq=place.seq, at=place.at)
