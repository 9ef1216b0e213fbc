"""The Open Inference Protocol V2 over REST, with Triton's binary tensors: what KServe and its clients speak.

Written from github.com/kserve/open-inference-protocol, `specification/protocol/inference_rest.md`, and from Triton's
description of its binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from penstock.bundle.outputs import OutputSpec
from penstock.errors import CallFailure, Unreadable
from penstock.schema import Check
from penstock.server.call import Asked, Call, Reader
from penstock.server.failures import plain_error
from penstock.server.protocols.v2_json import InferBody, Parameters, body_of, opening, tensors_of
from penstock.server.protocols.v2_outputs import LABEL, OutputForms, OutputTensor, require_known
from penstock.server.protocols.v2_tensors import Columnar

HEAD_LENGTH: Final = b"inference-header-content-length"
_MARK: Final = 0
_MARK_BYTES: Final = 9
_MAX_ID: Final = 128
_NONE: Final[frozenset[str]] = frozenset()


class Wish(msgspec.Struct, frozen=True):
    """What a request asks of its answer: its id back, which outputs (None: all), and which of them as bytes."""

    id: str | None
    outputs: tuple[str, ...] | None
    binary: frozenset[str]
    is_binary: bool
    forms: OutputForms | None = None

    def is_raw(self, name: str) -> bool:
        """Whether an output goes as bytes."""
        return self.is_binary if self.outputs is None else name in self.binary


class V2:
    """Bytes to `Asked`, reply or failure to bytes."""

    name = "v2"
    reads = b"*/*"  # clients name none, JSON or bytes; the header of the JSON part's length says what it is
    writes = b"application/json"

    def open(self, call: Call) -> bytes:
        """The body; with binary tensors, behind a NUL (which begins no JSON) and the length of its JSON part."""
        length = call.headers.get(HEAD_LENGTH)
        body = call.body
        head = body
        if length is None and body[:1] == b"\0":
            raise Unreadable("JSON is malformed: invalid character (byte 0)")
        if length is not None:
            if not length.isdigit() or len(length) > 10 or int(length) > len(body):
                raise Unreadable(
                    f"Expected Inference-Header-Content-Length to be the bytes of the JSON part, at most {len(body)}, "
                    f"got {length[:20].decode('latin-1')!r}"
                )
            head = body[: int(length)]
            body = b"\0%08x%b" % (len(head), body)
        said = opening(head)
        keep_id(call, said.id)
        shorten(call, (said.parameters or {}).get("timeout"))
        return body

    def reader(self, check: Check, max_rows: int) -> Reader:
        """As `reader_for`, of a model whose outputs are not known: any may be asked for."""
        return self.reader_for(check, max_rows, None)

    def reader_for(self, check: Check, max_rows: int, spec: OutputSpec | None) -> Reader:
        """A function that reads what `open` gives, for a schema and the outputs of `spec`."""
        columnar = Columnar(check, max_rows)
        forms = None if spec is None else OutputForms(spec)

        def read(content: bytes) -> Asked:
            head, tail = content, memoryview(b"")
            if content[:1] == b"\0":
                end = _MARK_BYTES + int(content[1:_MARK_BYTES], 16)
                head, tail = content[_MARK_BYTES:end], memoryview(content)[end:]
            body = body_of(head)
            wish = _wish(body, forms)
            if spec is not None and wish.outputs is not None:
                require_known(wish.outputs, spec)
            return columnar.asked(tensors_of(body.inputs, tail), wish)

        return read

    def answer(self, call: Call) -> bytes:
        """The body of an answer; where tensors go as bytes, `call.reply.headers` say where its JSON part ends."""
        reply = call.reply
        model = reply.answerer
        wish: Wish = call.asked.wish if call.asked is not None else Wish(None, None, frozenset(), False)
        forms = wish.forms or OutputForms(model.bundle.outputs)
        abstained = abstained_of(call)
        tensors = forms.tensors(reply.predictions, wish.outputs, has_gaps=bool(abstained))
        if abstained and wish.is_raw(LABEL):
            tensors = [tensor for tensor in tensors if tensor.name != LABEL]
        tails: list[bytes] = []
        said: dict[str, Any] = {"model_name": model.name, "model_version": str(model.version)}
        if wish.id is not None:
            said["id"] = wish.id
        marks = marks_of(call)
        if marks:
            said["parameters"] = marks
        said["outputs"] = [_output(tensor, wish, tails) for tensor in tensors]
        head = msgspec.json.encode(said)
        if not tails:
            return head
        reply.headers = (
            (b"content-type", b"application/octet-stream"),
            (HEAD_LENGTH, b"%d" % len(head)),
        )
        return b"".join([head, *tails])

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """`{"error": text}`."""
        return plain_error(failure, request_id)


def marks_of(call: Call) -> Parameters:
    """What an answer says of itself where the model did not run for it, or rows have no label."""
    reply = call.reply
    marks: Parameters = {} if reply.fallback is None else {"fallback": reply.fallback.kind}
    if reply.is_cached:
        marks["cached"] = True
    abstained = abstained_of(call)
    if abstained:
        marks["abstained"] = msgspec.json.encode(abstained).decode()
    return marks


def abstained_of(call: Call) -> list[int]:
    """The rows whose label was not decided: their probability is in the band where a person is to look."""
    decision = None if call.served is None else call.served.decision
    if decision is None or decision.abstain is None:
        return []
    rows = enumerate(call.reply.predictions)
    return [row for row, prediction in rows if prediction.label is None and prediction.probabilities is not None]


def keep_id(call: Call, given: str | None) -> None:
    """Keep the caller's id in the record; one that no header could carry goes back in the answer only."""
    if given and len(given) <= _MAX_ID and given.isascii() and given.isprintable():
        call.client_id = given


def shorten(call: Call, timeout_us: object) -> None:
    """Take Triton's `timeout` parameter (microseconds) as the deadline, if that is sooner."""
    if type(timeout_us) is int and 0 < timeout_us < 10**12:
        by_ns = call.arrived_ns + timeout_us * 1000
        call.deadline_ns = min(call.deadline_ns, by_ns) if call.deadline_ns else by_ns


def require_plain(parameters: Sequence[Parameters | None]) -> None:
    """Raise Unreadable for what changes the meaning of a tensor and is not spoken here."""
    for given in parameters:
        for name in ("shared_memory_region", "classification"):
            if given and given.get(name):
                raise Unreadable(f"Expected tensors as data or bytes, got the parameter {name}: leave it out")


def _wish(body: InferBody, forms: OutputForms | None) -> Wish:
    outputs = body.outputs
    require_plain([tensor.parameters for tensor in (*body.inputs, *(outputs or ())) if tensor.parameters])
    is_binary = body.parameters is not None and body.parameters.get("binary_data_output") is True
    if not outputs:
        return Wish(body.id, None, _NONE, is_binary, forms)
    binary = [wanted.name for wanted in outputs if (wanted.parameters or {}).get("binary_data", is_binary) is True]
    return Wish(body.id, tuple([wanted.name for wanted in outputs]), frozenset(binary), is_binary, forms)


def _output(tensor: OutputTensor, wish: Wish, tails: list[bytes]) -> dict[str, Any]:
    said: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
    parameters = tensor.parameters
    if wish.is_raw(tensor.name):
        tails.append(tensor.raw())
        parameters = {**parameters, "binary_data_size": len(tails[-1])}
    else:
        said["data"] = tensor.values
    if parameters:
        said["parameters"] = parameters
    return said
