"""What a worker and the process of a native model say to each other: frames over a stream socket.

A frame is four bytes of length (big-endian) and one message in MessagePack. Columns travel in the schema's order: the
bytes of a float64 or int64 array, or a list of texts; outputs as the bytes of their arrays, in `OutputSpec.names`'
order. Both sides hold the same bundle, so nothing of types or names is repeated. Deadlines are on `time.monotonic_ns`'s
clock, which all processes of a machine share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec
import numpy as np

from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import CallFailure, DeadlineExceeded, ModelFailed, OutputRefused
from penstock.schema import Columns, Schema

MAX_FRAME_BYTES: Final = 64 << 20
_HEAD_BYTES: Final = 4
_TEXTS: Final = frozenset({"string", "category"})
_INSTANT: Final = np.dtype("datetime64[ns]")

Packed: TypeAlias = bytes | list[str | None]


class MalformedFrame(Exception):
    """What came is no frame of ours: the connection cannot be used any more."""


class Run(msgspec.Struct, frozen=True, tag="run", array_like=True):
    """Worker to process: compute these rows together. Caller i has the next `counts[i]` rows and `deadlines_ns[i]`."""

    id: int
    counts: list[int]
    deadlines_ns: list[int]
    columns: list[Packed]


class Drop(msgspec.Struct, frozen=True, tag="drop", array_like=True):
    """Worker to process: nobody waits for this run; it need not be computed if it has not begun."""

    id: int


class Failed(msgspec.Struct, frozen=True, array_like=True):
    """Why one caller of a run gets no answer: its place, the failure's code and message, and what is for the log."""

    caller: int
    code: str
    message: str
    said: str = ""


class Ran(msgspec.Struct, frozen=True, tag="ran", array_like=True):
    """Process to worker: the outputs of all callers that did not fail, joined in their order."""

    id: int
    run_ms: float
    outputs: list[bytes]
    failed: list[Failed]


_FAILURES: Final[dict[str, type[CallFailure]]] = {
    kind.code: kind for kind in (ModelFailed, OutputRefused, DeadlineExceeded)
}
_ENCODER = msgspec.msgpack.Encoder()
_ASKED: msgspec.msgpack.Decoder[Run | Drop] = msgspec.msgpack.Decoder(Run | Drop)
_RAN = msgspec.msgpack.Decoder(Ran)


def frame(message: Run | Drop | Ran) -> bytearray:
    """The bytes of a message with its length before it."""
    made = bytearray(_HEAD_BYTES)
    _ENCODER.encode_into(message, made, _HEAD_BYTES)
    made[:_HEAD_BYTES] = (len(made) - _HEAD_BYTES).to_bytes(_HEAD_BYTES, "big")
    return made


class Frames:
    """Puts the bytes of a stream together to the payloads of frames, each of at most `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    def of(self, data: bytes) -> Iterator[bytes]:
        """The payloads that `data` completes. Raises MalformedFrame for one that would be too long."""
        self._data += data
        while len(self._data) >= _HEAD_BYTES:
            size_bytes = int.from_bytes(self._data[:_HEAD_BYTES], "big")
            if size_bytes > self._max_bytes:
                raise MalformedFrame(f"a frame of {size_bytes} bytes; at most {self._max_bytes} are taken")
            end = _HEAD_BYTES + size_bytes
            if len(self._data) < end:
                return
            payload = bytes(self._data[_HEAD_BYTES:end])
            del self._data[:end]
            yield payload


def asked(payload: bytes) -> Run | Drop:
    """A frame's payload as what a worker says. Raises MalformedFrame."""
    try:
        return _ASKED.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedFrame(str(error)) from error


def answered(payload: bytes) -> Ran:
    """A frame's payload as what the process of a model says. Raises MalformedFrame."""
    try:
        return _RAN.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedFrame(str(error)) from error


def packed(columns: Columns, schema: Schema) -> list[Packed]:
    """Columns as they travel."""
    return [
        columns[field.name].tolist() if field.type in _TEXTS else columns[field.name].tobytes()
        for field in schema.fields
    ]


def unpacked(run: Run, schema: Schema) -> Columns:
    """The columns of a run. Raises MalformedFrame unless they are those of `schema`, of as many rows as it says."""
    rows = sum(run.counts)
    if not run.counts or min(run.counts) < 0 or len(run.deadlines_ns) != len(run.counts):
        raise MalformedFrame(f"counts {run.counts[:10]} with {len(run.deadlines_ns)} deadlines")
    if len(run.columns) != len(schema.fields):
        raise MalformedFrame(f"{len(run.columns)} columns for the {len(schema.fields)} fields of the schema")
    return {
        field.name: _column(column, field.type, rows) for field, column in zip(schema.fields, run.columns, strict=True)
    }


def _column(column: Packed, kind: str, rows: int) -> np.ndarray:
    if isinstance(column, bytes) != (kind not in _TEXTS) or len(column) != (8 * rows if kind not in _TEXTS else rows):
        raise MalformedFrame(f"a column of {len(column)} that is no {kind} of {rows} rows")
    if isinstance(column, list):
        texts = np.empty(rows, object)
        texts[:] = column
        return texts
    return np.frombuffer(column, _INSTANT if kind == "timestamp" else np.float64)


def packed_outputs(parts: list[Outputs], spec: OutputSpec) -> list[bytes]:
    """Outputs of several callers, joined, as they travel."""
    if not parts:
        return [b"" for _ in spec.names]
    return [np.concatenate([part[name] for part in parts]).astype(_dtype(name), copy=False).tobytes()
            for name in spec.names]  # fmt: skip


def unpacked_outputs(ran: Ran, spec: OutputSpec, rows: int) -> Outputs:
    """The outputs of `rows` rows. Raises ModelFailed where the bytes are not so many."""
    if len(ran.outputs) != len(spec.names):
        raise ModelFailed(f"the model's process answered {len(ran.outputs)} outputs for {len(spec.names)}")
    return {name: _output(name, data, rows) for name, data in zip(spec.names, ran.outputs, strict=True)}


def _output(name: str, data: bytes, rows: int) -> np.ndarray:
    if len(data) % (8 * max(rows, 1)):
        raise ModelFailed(f"the model's process answered {len(data)} bytes of `{name}` for {rows} rows")
    flat = np.frombuffer(data, _dtype(name))
    return flat if name in ("label", "value") else flat.reshape(rows, -1)


def _dtype(name: str) -> type[np.int64] | type[np.float64]:
    return np.int64 if name == "label" else np.float64


def failure_of(failed: Failed) -> CallFailure:
    """The failure that a caller gets."""
    kind = _FAILURES.get(failed.code, ModelFailed)
    return kind(failed.message, failed.said) if issubclass(kind, ModelFailed) else kind(failed.message)
