"""The bodies of the Open Inference Protocol V2 over REST: JSON, with binary tensors behind it as Triton sends them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from penstock.errors import Unreadable
from penstock.server.protocols.reading import unreadable
from penstock.server.protocols.v2_tensors import Tensor, miscounted, require_fits, tensor_of_bytes

Parameters = dict[str, Any]
"""Whatever a client adds (text, number or truth each); what we do not know is left alone."""

_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class InputTensor(msgspec.Struct, frozen=True):
    """A tensor as it stands in the JSON part: with its `data`, or the `binary_data_size` of what follows."""

    name: str
    shape: list[int]
    datatype: str
    data: Raw | UnsetType = UNSET
    parameters: Parameters | None = None


class WantedOutput(msgspec.Struct, frozen=True):
    """An output that the caller asks for."""

    name: str
    parameters: Parameters | None = None


class InferBody(msgspec.Struct, frozen=True):
    """The JSON part of a request."""

    inputs: list[InputTensor]
    outputs: list[WantedOutput] | None = None
    id: str | None = None
    parameters: Parameters | None = None


class Opening(msgspec.Struct, frozen=True):
    """What is needed of a request before its version is known."""

    id: str | None = None
    parameters: Parameters | None = None


_BODY: Final = msgspec.json.Decoder(InferBody)
_OPENING: Final = msgspec.json.Decoder(Opening)


def _list_decoder(kind: Any) -> msgspec.json.Decoder[list[Any]]:
    return msgspec.json.Decoder(list[kind | None])  # null: a missing value, which the schema may allow


def _whole(low: int, high: int) -> Any:
    return _list_decoder(Annotated[int, Meta(ge=low, le=high)])


_DATA: Final[dict[str, msgspec.json.Decoder[list[Any]]]] = {
    "BOOL": _list_decoder(bool),
    **{f"INT{bits}": _whole(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": _whole(0, 2**bits - 1) for bits in (8, 16, 32)},
    # Above an int64's range msgspec has no bounds; no field takes a number as large.
    "UINT64": _list_decoder(Annotated[int, Meta(ge=0)]),
    **{f"FP{bits}": _list_decoder(float) for bits in (16, 32, 64)},
    "BYTES": _list_decoder(str),
}
_NESTED: Final = msgspec.json.Decoder(list[list[Raw]])


def opening(head: bytes) -> Opening:
    """The id and the parameters of a request; nothing where it cannot be read, which its reader will tell."""
    if b'"id"' in head or b'"parameters"' in head:
        try:
            return _OPENING.decode(head)
        except (msgspec.ValidationError, *_BROKEN):
            pass
    return Opening()


def body_of(head: bytes) -> InferBody:
    """The JSON part. Raises Unreadable."""
    try:
        return _BODY.decode(head)
    except (msgspec.ValidationError, *_BROKEN) as error:
        raise unreadable(error, head) from None


def tensors_of(inputs: Sequence[InputTensor], tail: memoryview) -> list[Tensor]:
    """The tensors of a request; `tail` is what follows its JSON part, as long as they say. Raises Unreadable."""
    found: list[Tensor] = []
    place = 0
    for sent in inputs:
        size = (sent.parameters or {}).get("binary_data_size")
        if size is None:
            found.append(_of_json(sent))
            continue
        if type(size) is not int or not 0 <= size <= len(tail) - place or sent.data is not UNSET:
            raise Unreadable(
                f"Expected binary_data_size to be the tensor's bytes behind the JSON part ({len(tail) - place} are "
                f"left), and no data, got {str(size)[:20]} - at `$.inputs.{sent.name[:64]}`"
            )
        found.append(tensor_of_bytes(sent.name, sent.datatype, sent.shape, tail[place : place + size]))
        place += size
    if place != len(tail):
        raise Unreadable(
            f"Expected {place} bytes behind the JSON part, as the tensors' binary_data_size say, got {len(tail)}"
        )
    return found


def _of_json(sent: InputTensor) -> Tensor:
    count = require_fits(sent.name, sent.datatype, sent.shape)
    if isinstance(sent.data, UnsetType):
        raise Unreadable(
            f"Expected the tensor's data, got none - at `$.inputs.{sent.name[:64]}`. Send `data`, or "
            f"`binary_data_size` with the header Inference-Header-Content-Length."
        )
    decoder = _DATA[sent.datatype]
    try:
        values = decoder.decode(sent.data)
    except msgspec.ValidationError as error:
        values = _flattened(sent, decoder, error)
    except _BROKEN as error:
        raise unreadable(error, bytes(sent.data)) from None
    if len(values) != count:
        raise miscounted(sent.name, sent.shape, len(values))
    return Tensor(sent.name, sent.datatype, sent.shape, values)


def _flattened(
    sent: InputTensor, decoder: msgspec.json.Decoder[list[Any]], error: msgspec.ValidationError
) -> list[Any]:
    """The values of data written as rows, `[[1, 2], [3, 4]]`, as the specification also has it."""
    try:
        rows = _NESTED.decode(bytes(sent.data))  # type: ignore[arg-type]
        if len(sent.shape) > 1 and any(len(row) != sent.shape[1] for row in rows):
            raise Unreadable(
                f"Expected rows of {sent.shape[1]} values, as the shape says, got others "
                f"- at `$.inputs.{sent.name[:64]}`"
            )
        return decoder.decode(b"[%b]" % b",".join(chain.from_iterable(rows)))
    except msgspec.ValidationError:
        raise Unreadable(f"{sent.datatype}: {error} of `$.inputs.{sent.name[:64]}.data`") from None
