"""Opens the gRPC server where the extra `grpc` is installed; nothing else imports what needs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Final, Protocol

from penstock.errors import MissingExtra
from penstock.server.predict import Predict
from penstock.server.protocols.v2_models import V2Models

_SERVER: Final = ("penstock.server.rpc.server", "RpcServer")


class GrpcServer(Protocol):
    """Answers gRPC on the loop that it is started on."""

    async def start(self) -> None:
        """Listen."""
        ...

    async def stop(self) -> None:
        """Take no more calls, and wait for those under way."""
        ...


def grpc_server(
    predict: Predict, models: V2Models, *, address: str, deadline_ms: int, max_bytes: int, drain_s: float
) -> GrpcServer:
    """The server for `address`, not yet started. Raises MissingExtra."""
    module, attribute = _SERVER
    try:
        made: Callable[..., GrpcServer] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "grpcio", "grpc", "server.grpc_port") from error
    return made(predict, models, address=address, deadline_ms=deadline_ms, max_bytes=max_bytes, drain_s=drain_s)
