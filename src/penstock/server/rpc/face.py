"""The face of the protocol over gRPC: messages to rows, answers to messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from penstock.bundle.outputs import OutputSpec
from penstock.errors import CallFailure, NotFound, Unreadable
from penstock.schema import Check
from penstock.server.call import Asked, Call, Reader
from penstock.server.failures import message_of
from penstock.server.protocols.v2 import abstained_of, keep_id, marks_of, require_plain, shorten
from penstock.server.protocols.v2_models import version_of
from penstock.server.protocols.v2_outputs import LABEL, OutputForms, require_known
from penstock.server.protocols.v2_tensors import (
    BYTES,
    Columnar,
    Tensor,
    decoded_texts,
    miscounted,
    require_fits,
    tensor_of_bytes,
)
from penstock.server.rpc.messages import message

_CONTENTS: Final = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_NARROW: Final = {
    "INT8": (-(2**7), 2**7 - 1),
    "INT16": (-(2**15), 2**15 - 1),
    "UINT8": (0, 2**8 - 1),
    "UINT16": (0, 2**16 - 1),
}
_MOST_CHARS: Final = 2000
"""Of a refusal's text, which travels among the headers: gRPC takes 8 KB of those."""


class RpcWish(msgspec.Struct, frozen=True):
    """What a request asks of its answer: its id back, and which outputs (None: all)."""

    id: str
    outputs: tuple[str, ...] | None
    forms: OutputForms | None = None


class Rpc:
    """Bytes of a `ModelInferRequest` to `Asked`, reply to those of a `ModelInferResponse`, failure to a text."""

    name = "v2-grpc"
    reads = writes = b"application/grpc"

    def __init__(self) -> None:
        self._request = message("ModelInferRequest")
        self._response = message("ModelInferResponse")

    def open(self, call: Call) -> bytes:
        """The message as it is; its model, version and id are set in `call`. Raises Unreadable and NotFound."""
        request = self._decoded(call.body)
        if not request.model_name:
            raise NotFound("Expected the name of a model, got none - at `model_name`")
        call.model = request.model_name
        call.version = version_of(request.model_version)
        keep_id(call, request.id)
        if request.parameters:
            shorten(call, _plain(request.parameters).get("timeout"))
        return call.body

    def reader(self, check: Check, max_rows: int) -> Reader:
        """As `reader_for`, of a model whose outputs are not known: any may be asked for."""
        return self.reader_for(check, max_rows, None)

    def reader_for(self, check: Check, max_rows: int, spec: OutputSpec | None) -> Reader:
        """A function that reads a message for a schema and the outputs of `spec`."""
        columnar = Columnar(check, max_rows)
        forms = None if spec is None else OutputForms(spec)

        def read(content: bytes) -> Asked:
            request = self._decoded(content)
            outputs = tuple([wanted.name for wanted in request.outputs]) or None
            require_plain([_plain(each.parameters) for each in (*request.inputs, *request.outputs) if each.parameters])
            if spec is not None and outputs is not None:
                require_known(outputs, spec)
            return columnar.asked(_tensors(request), RpcWish(request.id, outputs, forms))

        return read

    def answer(self, call: Call) -> bytes:
        """The message of an answer; all tensors in `raw_output_contents`."""
        reply = call.reply
        model = reply.answerer
        wish: RpcWish = call.asked.wish if call.asked is not None else RpcWish("", None)
        answer = self._response(model_name=model.name, model_version=str(model.version), id=wish.id)
        for name, value in marks_of(call).items():
            _set(answer.parameters[name], value)
        forms = wish.forms or OutputForms(model.bundle.outputs)
        abstained = abstained_of(call)
        for tensor in forms.tensors(reply.predictions, wish.outputs):
            if abstained and tensor.name == LABEL:
                continue  # bytes cannot say that a row has none
            said = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            for name, value in tensor.parameters.items():
                _set(said.parameters[name], value)
            answer.raw_output_contents.append(tensor.raw())
        body: bytes = answer.SerializeToString()
        return body

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """What is said beside the status."""
        return message_of(failure)[:_MOST_CHARS].encode()

    def _decoded(self, body: bytes) -> Any:
        try:
            return self._request.FromString(body)
        except DecodeError:
            raise Unreadable("the bytes are not a ModelInferRequest of the Open Inference Protocol V2") from None


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}
    return {name: getattr(value, choice) for name, (value, choice) in chosen.items() if choice}


def _set(parameter: Any, value: bool | str) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    else:
        parameter.string_param = value


def _tensors(request: Any) -> list[Tensor]:
    """The tensors of a request, all in `raw_input_contents` or each in its own contents. Raises Unreadable."""
    raw, inputs = request.raw_input_contents, request.inputs
    if not raw:
        return [_of_contents(sent) for sent in inputs]
    if len(raw) != len(inputs) or any(sent.HasField("contents") for sent in inputs):
        raise Unreadable(
            f"Expected raw_input_contents for each of the {len(inputs)} inputs and then no contents, got {len(raw)} "
            f"- at `raw_input_contents`"
        )
    return [
        tensor_of_bytes(sent.name, sent.datatype, list(sent.shape), data)
        for sent, data in zip(inputs, raw, strict=True)
    ]


def _of_contents(sent: Any) -> Tensor:
    name, datatype, shape = sent.name, sent.datatype, list(sent.shape)
    count = require_fits(name, datatype, shape)
    member = _CONTENTS.get(datatype, "raw_input_contents")
    filled = [field.name for field, _ in sent.contents.ListFields()]
    if filled not in ([], [member]) or member not in _CONTENTS.values():
        raise Unreadable(
            f"Expected the values of {datatype} in {member}, got {', '.join(filled) or 'none'} "
            f"- at `$.inputs.{name[:64]}`"
        )
    values: list[Any] = list(getattr(sent.contents, member))
    if len(values) != count:
        raise miscounted(name, shape, len(values))
    if datatype == BYTES:
        values = list(decoded_texts(name, values))
    low, high = _NARROW.get(datatype, (None, None))
    if low is not None and values and not low <= min(values) <= max(values) <= high:
        raise Unreadable(f"Expected values of {datatype}, got others - at `$.inputs.{name[:64]}`")
    return Tensor(name, datatype, shape, values)
