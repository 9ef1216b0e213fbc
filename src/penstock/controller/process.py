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
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from penstock.address import listen, require_safe_address, url_of
from penstock.controller.api import api_of
from penstock.controller.assemble import Plane, control_plane
from penstock.controller.lock import Address, locked, write_address
from penstock.controller.watch import watchers
from penstock.errors import PenstockError
from penstock.logs import set_up_logs
from penstock.settings import Settings
from penstock.workers import channel
from penstock.workers.channel import Apply, Failed, Govern, Governs, Leave, Standing

_LOG = logging.getLogger("penstock")
_LOCK_S = 10.0


async def attend(end: socket.socket, plane: Plane, server: uvicorn.Server, listener: socket.socket) -> None:
    """Hear the supervisor and answer the control API until told to leave."""

    def hear() -> None:
        while True:
            try:
                message = channel.received_by_controller(end)
            except BlockingIOError:
                return
            except OSError:
                message = None
            match message:
                case Standing():
                    plane.convergence.stands(message.revisions, message.failures)
                case Leave() | None:
                    asyncio.get_running_loop().remove_reader(end)
                    server.should_exit = True
                    return

    asyncio.get_running_loop().add_reader(end, hear)
    hear()
    await server.serve(sockets=[listener])


def govern(end: socket.socket, told: Govern) -> None:
    """Govern until told to leave. Raises PenstockError when that cannot begin."""
    settings = told.settings
    home = Path(settings.home)
    require_safe_address(settings.control)
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(locked(home, _LOCK_S)):
            raise PenstockError(f"another server or command holds the home {home}: a home has one controller at a time")
        plane = stack.enter_context(
            control_plane(settings, tell=lambda revision: _tell(end, revision))
        )
        listener = stack.enter_context(listen(settings.control))
        url = url_of(listener)
        write_address(home, Address(url, os.getpid()))
        for work in (plane.convergence.run, *watchers(settings, plane)):
            threading.Thread(target=work, daemon=True, name=getattr(work, "__qualname__", "watch")).start()
        channel.send(end, Governs(url))
        asyncio.run(attend(end, plane, _server(settings, plane), listener))
        plane.convergence.stop()


def _server(settings: Settings, plane: Plane) -> uvicorn.Server:
    config = uvicorn.Config(
        api_of(plane.operations, settings),
        access_log=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=5,
    )
    return _Told(config)


class _Told(uvicorn.Server):
    """uvicorn, stopped by the supervisor and by no signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _tell(end: socket.socket, revision: int) -> None:
    channel.send(end, Apply(revision))


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
    try:
        govern(end, told)
    except PenstockError as error:
        channel.send(end, Failed(str(error)))
        sys.exit(1)


if __name__ == "__main__":
    main()
