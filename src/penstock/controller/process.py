"""The controller's process: one beside the workers, started and watched by the supervisor.

python -m penstock.controller.process 7      the number is the descriptor of its end of the channel

It holds the home's lock, answers the control API, and makes the machine serve what the state says. When it dies the
workers go on, and the supervisor starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import msgspec
import uvicorn

from penstock.address import listen, require_safe_address, url_of
from penstock.controller.api import api_of, uvicorn_config
from penstock.controller.assemble import Plane, control_plane
from penstock.controller.convergence import Convergence
from penstock.controller.lock import LOCK_FILE, Address, locked, remove_address, write_address
from penstock.controller.watch import watchers
from penstock.controller.webhooks import couriers
from penstock.errors import PenstockError
from penstock.logs import set_up_logs
from penstock.settings import Settings
from penstock.workers import channel
from penstock.workers.channel import Apply, Beat, EndSegment, Failed, Govern, Governs, Leave, Standing

_LOG = logging.getLogger("penstock")
_LOCK_S: Final = 10.0
_END_S: Final = 3.0


class Part(Protocol):
    """Work that goes on in a thread of its own."""

    def run(self) -> None:
        """Go on until `stop`."""
        ...

    def stop(self) -> None:
        """End `run`."""
        ...


class Api(uvicorn.Server):
    """The control API, stopped by the supervisor and by no signal."""

    def __init__(self, plane: Plane, settings: Settings) -> None:
        super().__init__(uvicorn_config(api_of(plane.operations, settings), end_s=int(_END_S)))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of them: the main function has set what they do."""
        yield


async def attend(end: socket.socket, convergence: Convergence, api: Api, listener: socket.socket) -> None:
    """Hear the supervisor and answer the control API until told to leave, or the supervisor is gone."""
    loop = asyncio.get_running_loop()

    def hear() -> None:
        message = _heard(end)
        while isinstance(message, Standing):
            convergence.stands(message.revisions, message.failures, message.revision)
            message = _heard(end)
        if isinstance(message, Leave):
            loop.remove_reader(end)
            convergence.end()
            api.should_exit = True

    loop.add_reader(end, hear)
    hear()
    await api.serve(sockets=[listener])


def _heard(end: socket.socket) -> Standing | Govern | Leave | None:
    """What the supervisor says; None for nothing yet. One that is gone lets us leave."""
    try:
        return channel.received_by_controller(end) or Leave()
    except BlockingIOError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        _LOG.error("the supervisor cannot be heard any more: %s", error)
        return Leave()


def govern(end: socket.socket, told: Govern) -> None:
    """Govern until told to leave. Raises PenstockError when that cannot begin."""
    settings = told.settings
    home = Path(settings.home)
    require_safe_address(settings.control)
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(locked(home, _LOCK_S)):
            raise PenstockError(
                f"another server or command holds {home / LOCK_FILE}: a home has one server; end the other one, or "
                "give this one a home of its own"
            )
        plane = stack.enter_context(
            control_plane(settings, tell=_telling(end), turn=_turning(end), serves_since=told.began_at)
        )
        listener = stack.enter_context(listen(settings.control))
        url = url_of(listener)
        write_address(home, Address(url, os.getpid(), os.getppid()))
        stack.callback(remove_address, home)
        api = Api(plane, settings)
        converging = _started(plane.convergence.run)
        posts = couriers(settings, plane.store)
        parts: list[Part] = [*posts, plane.sealing, plane.rollouts, plane.experiments, plane.shadows]
        for work in (*watchers(settings, plane), *(part.run for part in parts)):
            _started(work)
        plane.shadows.on_counted = lambda counted: channel.send(end, Beat(0, counted))
        channel.send(end, Governs(url))
        asyncio.run(attend(end, plane.convergence, api, listener))
        for part in parts:
            part.stop()
        converging.join(_END_S)
        plane.convergence.farewell()


def _telling(end: socket.socket) -> Callable[[int], bool]:
    return lambda revision: channel.send(end, Apply(revision))


def _turning(end: socket.socket) -> Callable[[], bool]:
    return lambda: channel.send(end, EndSegment())


def _started(work: Callable[[], None]) -> threading.Thread:
    """`work`, under way in a thread that does not keep the process."""
    thread = threading.Thread(target=work, daemon=True, name=getattr(work, "__qualname__", "work"))
    thread.start()
    return thread


def main() -> None:
    """Govern as the supervisor says. Exits 1, having said why, when it cannot."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[1]))
    end.setblocking(False)
    select.select([end], [], [])
    told = channel.received_by_controller(end)
    if not isinstance(told, Govern):
        return  # the supervisor is gone already
    set_up_logs(told.settings.log)
    for library in ("alembic", "httpx", "uvicorn"):  # that they are at work is no news
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
    try:
        govern(end, told)
    except PenstockError as error:
        channel.send(end, Failed(str(error)))
        sys.exit(1)


if __name__ == "__main__":
    main()
