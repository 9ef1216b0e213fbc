"""The gRPC server of one worker: on its event loop, in front of the same `Predict` as HTTP.

`grpc.aio` rather than a server with threads: its calls are on the loop already, so a tick takes them together and no
thread has to be woken for each answer. It binds with SO_REUSEPORT: the kernel spreads connections over the workers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio
import msgspec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from penstock.errors import CallFailure
from penstock.server.call import Call
from penstock.server.failures import GRPC_STATUS, message_of
from penstock.server.predict import Predict
from penstock.server.protocols.v2_models import Ready, V2Models
from penstock.server.rpc.face import Rpc
from penstock.server.rpc.messages import SERVICE, message, pool
from penstock.telemetry import trace_of

_MAX_CLIENT_ID: Final = 128
_HEALTH: Final = health.SERVICE_NAME
_REFLECTION: Final = reflection.SERVICE_NAME
_KNOWN: Final = (health_pb2, reflection_pb2)

Method = Callable[[bytes, Any], Awaitable[bytes]]


class RpcServer:
    """Answers gRPC at `address`. Used on one event loop: `start`, then `stop`."""

    def __init__(
        self, predict: Predict, models: V2Models, *, address: str, deadline_ms: int, max_bytes: int, drain_s: float
    ) -> None:
        self.address = address
        self._predict = predict
        self._models = models
        self._deadline_ns = deadline_ms * 1_000_000
        self._max_bytes = max_bytes
        self._drain_s = drain_s
        self._face = Rpc()
        self._health = health.aio.HealthServicer()
        self._server: Any = None

    async def start(self) -> None:
        """Listen. Raises RuntimeError where the address cannot be had."""
        options = [
            ("grpc.max_receive_message_length", self._max_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 1),
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._methods()),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, _HEALTH, _REFLECTION), self._server, _every_service())
        self._server.add_insecure_port(self.address)
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def stop(self) -> None:
        """Take no more calls, and wait for those under way."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(self._drain_s)

    def _methods(self) -> dict[str, Any]:
        tell = self._tell
        named = ("name", "version")
        methods: dict[str, Method] = {
            "ModelInfer": self._infer,
            "ServerLive": tell("ServerLive", (), lambda: {"live": True}),
            "ServerReady": tell("ServerReady", (), lambda: {"ready": _is_so(self._models.ready)}),
            "ModelReady": tell("ModelReady", named, lambda *asked: {"ready": _is_so(self._models.model_ready, *asked)}),
            "ServerMetadata": tell("ServerMetadata", (), lambda: _members(self._models.server())),
            "ModelMetadata": tell("ModelMetadata", named, lambda *asked: _members(self._models.model(*asked))),
            "RepositoryIndex": tell(
                "RepositoryIndex", (), lambda: {"models": list(map(_members, self._models.index()))}
            ),
        }
        return {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}

    async def _infer(self, body: bytes, context: Any) -> bytes:
        """One prediction; a caller who hangs up, or whose deadline passes, cancels this and the call with it."""
        call = self._call(body, context)
        landed: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        call.done = lambda done: None if landed.done() else landed.set_result(done)
        self._predict.start(call)
        try:
            await landed
        except asyncio.CancelledError:
            call.hang_up()
            raise
        reply = call.reply
        context.set_trailing_metadata((("x-penstock-request-id", reply.request_id), *_arm_of(call)))
        if reply.failure is None:
            return self._face.answer(call)
        return _refused(context, reply.failure, self._face.refusal(reply.failure, reply.request_id))

    def _call(self, body: bytes, context: Any) -> Call:
        arrived_ns = time.monotonic_ns()
        call = Call(self._face, b"", arrived_ns)
        patience_ns, left_s = self._deadline_ns, context.time_remaining()
        if left_s is not None:
            patience_ns = min(patience_ns, max(0, int(left_s * 1e9)))
        call.deadline_ns = arrived_ns + patience_ns
        _read_metadata(call, context.invocation_metadata() or ())
        call.body = body
        if not self._predict.intake.hold(len(body), len(body)):
            self._predict.intake.refuse(call)
        return call

    def _tell(self, name: str, asked: tuple[str, ...], tell: Callable[..., dict[str, Any]]) -> Method:
        """A method that runs no model: `tell` gets the members of the request that are `asked`."""
        request, response = message(f"{name}Request"), message(f"{name}Response")

        async def answer(body: bytes, context: Any) -> bytes:
            sent = request.FromString(body)
            try:
                told: bytes = response(**tell(*(getattr(sent, member) for member in asked))).SerializeToString()
            except CallFailure as failure:
                return _refused(context, failure, message_of(failure).encode())
            return told

        return answer


def _is_so(tell: Callable[..., Ready], *asked: str) -> bool:
    """What REST says by its status is a truth here."""
    try:
        return tell(*asked).ready
    except CallFailure:
        return False


def _refused(context: Any, failure: CallFailure, text: bytes) -> bytes:
    context.set_code(getattr(grpc.StatusCode, GRPC_STATUS[type(failure)]))
    context.set_details(text.decode())
    return b""


def _arm_of(call: Call) -> list[tuple[str, str]]:
    """The arm of an experiment, as HTTP's headers have it."""
    if call.assigned is None:
        return []
    arm = [] if call.assigned.arm is None else [("x-penstock-arm", call.assigned.arm)]
    return [("x-penstock-experiment", call.assigned.experiment), *arm]


def _read_metadata(call: Call, metadata: Sequence[tuple[str, str | bytes]]) -> None:
    call.headers = {name.encode(): value.encode() if isinstance(value, str) else value for name, value in metadata}
    for name, value in metadata:
        if name == "traceparent" and isinstance(value, str):
            call.trace = trace_of(value.encode())
        elif name == "x-request-id" and isinstance(value, str) and len(value) <= _MAX_CLIENT_ID:
            call.client_id = value if value.isascii() and value.isprintable() else None
        elif name == "x-penstock-key" and isinstance(value, str):
            call.key = value


def _members(value: Any) -> dict[str, Any]:
    """A struct as the arguments of its message, which has the same names."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def _every_service() -> Any:
    """The pool of the protocol, with the services of health and reflection beside it."""
    known = pool()
    for module in _KNOWN:
        known.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return known
