"""What supervisor and worker say to each other: small JSON messages over a Unix socket that keeps their bounds.

A connection's file descriptor travels with the message that hands it over (SCM_RIGHTS). Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final, TypeAlias

import msgspec

from penstock.settings import Settings
from penstock.started import Served
from penstock.telemetry import FamilyState

MAX_MESSAGE_BYTES: Final = 4 << 20


class Configure(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker, first: what to serve, and as which worker."""

    settings: Settings
    bundles: list[str]
    worker: int
    url: str


class Take(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker: an accepted connection; its descriptor comes with the message."""


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker: answer what is under way, then exit."""


class Summed(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker: the metrics of all workers, dead ones' included, as text."""

    text: str


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor: everything is loaded and proven; connections may come."""

    models: list[Served]
    segment: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor: it cannot serve, and why; it exits."""

    message: str


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor, a few times a second: it lives; how many connections it has, and what it has counted."""

    connections: int
    counted: list[FamilyState]


class Sum(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor: somebody asks for the metrics; answered by `Summed`. Brings its own latest numbers."""

    counted: list[FamilyState]


ToWorker: TypeAlias = Configure | Take | Leave | Summed
ToSupervisor: TypeAlias = Ready | Failed | Beat | Sum

_ENCODER = msgspec.json.Encoder()
_TO_WORKER: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker)
_TO_SUPERVISOR: msgspec.json.Decoder[ToSupervisor] = msgspec.json.Decoder(ToSupervisor)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a channel: the supervisor's and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE_BYTES)
        end.setblocking(False)
    return ours, theirs


def send(end: socket.socket, message: ToWorker | ToSupervisor, connection: socket.socket | None = None) -> bool:
    """Send a message, and a connection with it. False when the other side is gone or does not read."""
    with contextlib.suppress(OSError):
        handles = [] if connection is None else [connection.fileno()]
        socket.send_fds(end, [_ENCODER.encode(message)], handles)
        return True
    return False


def received_by_worker(end: socket.socket) -> tuple[ToWorker | None, socket.socket | None]:
    """The next message and the connection that came with it; no message once the supervisor is gone.

    Raises BlockingIOError when nothing is there.
    """
    data, handles, _, _ = socket.recv_fds(end, MAX_MESSAGE_BYTES, 1)
    connection = socket.socket(fileno=handles[0]) if handles else None
    return (_TO_WORKER.decode(data) if data else None), connection


def received_by_supervisor(end: socket.socket) -> ToSupervisor | None:
    """The next message; None once the worker is gone. Raises BlockingIOError when nothing is there."""
    data = end.recv(MAX_MESSAGE_BYTES)
    return _TO_SUPERVISOR.decode(data) if data else None
