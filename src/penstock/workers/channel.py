"""What supervisor, workers, native processes and the controller say to each other: JSON messages on Unix sockets.

A connection's file descriptor travels with the message that hands it over (SCM_RIGHTS). The sockets keep
the bounds of messages; what is too long for one goes as a file in memory. Nothing is pickled.
"""

from __future__ import annotations

import contextlib
import os
import socket
from datetime import datetime
from typing import Final, TypeAlias

import msgspec

from penstock.routing import Wanted
from penstock.settings import Settings
from penstock.started import Loaded, Served
from penstock.telemetry import FamilyState

ROOM_BYTES: Final = 4 << 20
"""What may wait in a channel, where the system allows as much."""

MAX_MESSAGE_BYTES: Final = 64 << 10
_IN_MEMORY: Final = b"@"


class Configure(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker, first: what to serve, and as which worker."""

    settings: Settings
    wanted: Wanted
    worker: int
    url: str
    apart: list[Loaded]
    untold: tuple[str, int, int] | None = None
    """The last place that the worker before, which died, told of: what it wrote after it is to be counted."""


class Take(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker: an accepted connection; its descriptor comes with the message."""


class Unready(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker: answer as before, but say that the server is not ready: it is about to stop."""


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to any other process: answer what is under way, then exit."""


class Apply(msgspec.Struct, frozen=True, tag=True):
    """Controller to supervisor: `routing.json` was replaced; it is at this revision, or a later one by now."""

    revision: int


class EndSegment(msgspec.Struct, frozen=True, tag=True):
    """Controller to supervisor, and supervisor to worker: begin a new segment of the log, and leave the old one."""


class Swap(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker: serve this from now on. `apart` are the versions that native processes have loaded; `turn`
    counts swaps, for two may be of one revision.
    """

    wanted: Wanted
    apart: list[Loaded]
    turn: int


class Applied(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor: it serves the table of this revision; `failures` say by `name/version` what it could not
    load, where it goes on with what it had.
    """

    revision: int
    failures: dict[str, str] = {}
    turn: int = 0


class Govern(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to controller, first: the settings, where calls are answered, and since when the server runs."""

    settings: Settings
    url: str
    began_at: datetime | None = None


class Governs(msgspec.Struct, frozen=True, tag=True):
    """Controller to supervisor: the control API answers at `url`."""

    url: str


class Standing(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to controller, whenever it changes: the revision that each worker serves, by number, and what any of
    them, or a native process, could not load of it: a failure of an older `routing.json` is not told again.
    """

    revisions: dict[int, int]
    failures: dict[str, str] = {}
    revision: int = 0
    """Of the `routing.json` that was taken up last, which the failures are of."""


class Summed(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker: the metrics of all workers, dead ones' included, as text."""

    text: str


class Attach(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to worker: the version's process is asked by the socket that comes with the message."""

    name: str
    version: int


class Load(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to native process, first: what to load, under which label, and how long a run may take."""

    settings: Settings
    bundle: str
    version: int
    label: str
    limit_s: float


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to a native process that has loaded: fork one that computes; its channel comes with the message."""


class Attend(msgspec.Struct, frozen=True, tag=True):
    """Supervisor to native process: a worker asks by the socket that comes with the message."""


class Up(msgspec.Struct, frozen=True, tag=True):
    """Native process to supervisor: it computes, under this process id."""

    pid: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor: everything is loaded and proven; connections may come. The rest is as in `Applied`."""

    models: list[Served]
    segment: str
    resident_bytes: int
    revision: int = 0
    failures: dict[str, str] = {}


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Worker, native process or controller to supervisor: it cannot begin, and why; it exits."""

    message: str


class Took(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor: how many connections it has taken in its life, and how many it has now."""

    taken: int
    connections: int


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor, a few times a second: it lives; its connections as in `Took`, and what it has counted,
    which is up to `place`: a segment of its log and the bytes in it. The controller says so what it has counted.
    """

    connections: int
    counted: list[FamilyState]
    place: tuple[str, int, int] | None = None
    taken: int = 0


class Sum(msgspec.Struct, frozen=True, tag=True):
    """Worker to supervisor: somebody asks for the metrics; answered by `Summed`. Brings its own latest numbers."""

    counted: list[FamilyState]
    place: tuple[str, int, int] | None = None


ToWorker: TypeAlias = Configure | Take | Unready | Leave | Summed | Attach | Swap | EndSegment
ToController: TypeAlias = Govern | Standing | Leave
ToNative: TypeAlias = Load | Begin | Attend | Leave
ToSupervisor: TypeAlias = Ready | Failed | Took | Beat | Sum | Loaded | Up | Applied | Governs | Apply | EndSegment

Message: TypeAlias = ToWorker | ToNative | ToController | ToSupervisor

_ENCODER = msgspec.json.Encoder()
_TO_WORKER: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker)
_TO_NATIVE: msgspec.json.Decoder[ToNative] = msgspec.json.Decoder(ToNative)
_TO_CONTROLLER: msgspec.json.Decoder[ToController] = msgspec.json.Decoder(ToController)
_TO_SUPERVISOR: msgspec.json.Decoder[ToSupervisor] = msgspec.json.Decoder(ToSupervisor)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a channel: the supervisor's and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM_BYTES)
        end.setblocking(False)
    return ours, theirs


def send(end: socket.socket, message: Message, connection: socket.socket | None = None) -> bool:
    """Send a message, and a connection with it. False when the other side is gone or does not read."""
    data = _ENCODER.encode(message)
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        handles = [] if connection is None else [connection.fileno()]
        if len(data) > MAX_MESSAGE_BYTES:
            handles.insert(0, _in_memory(data, stack))
            data = _IN_MEMORY
        socket.send_fds(end, [data], handles)
        return True
    return False


def received_by_worker(end: socket.socket) -> tuple[ToWorker | None, socket.socket | None]:
    """The next message and the connection that came with it; no message once the supervisor is gone.

    Raises BlockingIOError when nothing is there.
    """
    data, handle = _received(end)
    return (_TO_WORKER.decode(data) if data else None), handle


def received_by_native(end: socket.socket) -> tuple[ToNative | None, socket.socket | None]:
    """As `received_by_worker`, in a native process."""
    data, handle = _received(end)
    return (_TO_NATIVE.decode(data) if data else None), handle


def received_by_controller(end: socket.socket) -> ToController | None:
    """The next message; None once the supervisor is gone. Raises BlockingIOError when nothing is there."""
    data, _ = _received(end)
    return _TO_CONTROLLER.decode(data) if data else None


def received_by_supervisor(end: socket.socket) -> ToSupervisor | None:
    """The next message; None once the other process is gone. Raises BlockingIOError when nothing is there."""
    try:
        data, _ = _received(end)
    except ConnectionResetError:  # it died with messages unread; the kernel says so once, before what it sent last
        data, _ = _received(end)
    return _TO_SUPERVISOR.decode(data) if data else None


def _received(end: socket.socket) -> tuple[bytes, socket.socket | None]:
    """The bytes of the next message, none at the end, and the connection that came with it."""
    while True:
        data, handles, _, _ = socket.recv_fds(end, MAX_MESSAGE_BYTES, 2)
        if data != _IN_MEMORY:
            break
        if handles:  # there are files to be had
            data = _whole(handles.pop(0))
            break
    return data, socket.socket(fileno=handles[0]) if handles else None


def _in_memory(data: bytes, stack: contextlib.ExitStack) -> int:
    """The descriptor of a file in memory that holds `data`, closed at the end of `stack`."""
    file = stack.enter_context(os.fdopen(os.memfd_create("penstock"), "wb", buffering=0))
    file.write(data)
    return file.fileno()


def _whole(handle: int) -> bytes:
    with os.fdopen(handle, "rb") as file:
        file.seek(0)
        return file.read()
