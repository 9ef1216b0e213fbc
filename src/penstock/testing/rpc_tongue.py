"""The Open Inference Protocol over gRPC as a caller speaks it, with raw tensors; needs the extra `grpc`."""

from __future__ import annotations

from typing import Any, Final

import grpc
import httpx
import msgspec

from penstock.server.rpc.messages import message
from penstock.testing.tongues import TONGUES, Heard, Rows, Tongue, answers_of

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
_BINARY: Final = next(tongue for tongue in TONGUES if tongue.name == "v2-binary")
_STATUS: Final = {grpc.StatusCode.INVALID_ARGUMENT: 400, grpc.StatusCode.NOT_FOUND: 404}


class RpcTongue(Tongue, frozen=True, kw_only=True):
    """As the REST form with binary tensors, whose writing and telling it shares; `address` is the port of gRPC."""

    address: str

    def ask(self, http: httpx.Client, model: str, rows: Rows) -> Heard:
        """Put `rows` to `model`; of `http` only the caller's id is used."""
        metadata = [("x-request-id", http.headers["x-request-id"])] if "x-request-id" in http.headers else []
        with grpc.insecure_channel(self.address) as channel:
            infer = channel.unary_unary(METHOD)
            try:
                body, call = infer.with_call(grpc_body(model, rows), metadata=metadata, timeout=30)
            except grpc.RpcError as error:
                return Heard(_STATUS.get(error.code(), 500), [], _request_id(error), error.details())
        reply = message("ModelInferResponse").FromString(body)
        tensors = [(each.name, each.datatype, list(each.shape)) for each in reply.outputs]
        return Heard(200, answers_of(tensors, list(reply.raw_output_contents)), _request_id(call))


def rpc_tongue(address: str) -> RpcTongue:
    """The tongue for a server's port of gRPC."""
    return RpcTongue(
        name="grpc",
        protocol="v2-grpc",
        path="",
        write=_BINARY.write,
        read=_BINARY.read,
        told=_BINARY.told,
        address=address,
    )


def grpc_body(model: str, rows: Rows) -> bytes:
    """A ModelInferRequest with raw tensors, one per field: those of V2's binary form."""
    body, headers = _BINARY.write(rows)
    place = int(headers["inference-header-content-length"])
    head: dict[str, Any] = msgspec.json.decode(body[:place])
    request = message("ModelInferRequest")(model_name=model)
    for tensor in head["inputs"]:
        request.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        end = place + tensor["parameters"]["binary_data_size"]
        request.raw_input_contents.append(body[place:end])
        place = end
    encoded: bytes = request.SerializeToString()
    return encoded


def _request_id(call: Any) -> str:
    found: str = dict(call.trailing_metadata())["x-penstock-request-id"]
    return found
