"""Connections that no worker can take at the moment: they wait, and are taken in the end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator

import pytest

from penstock.address import listen
from penstock.settings import ServerSettings, Settings
from penstock.workers import channel
from penstock.workers.channel import Ready, Take
from penstock.workers.supervisor import Supervisor, Worker

CONNECTIONS = 200


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen(ServerSettings(port=0)) as made:
        made.setblocking(False)
        yield made


async def taken(listener: socket.socket) -> int:
    """How many of many connections arrive at a worker that reads only once its channel is full."""
    supervisor = Supervisor(Settings(), [], listener, on_start=lambda started: None)
    ours, theirs = channel.pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    process = subprocess.Popen(["true"])
    worker = Worker(0, process, ours)
    worker.ready = Ready([], "", 0)
    supervisor._workers.append(worker)
    supervisor._is_started = True
    callers = [socket.create_connection(listener.getsockname()) for _ in range(CONNECTIONS)]
    supervisor._accept_if_possible()
    while supervisor._held is None:
        await asyncio.sleep(0)
    found = 0
    async with asyncio.timeout(30):
        while found < CONNECTIONS:
            try:
                message, connection = channel.received_by_worker(theirs)
            except BlockingIOError:
                await asyncio.sleep(0.01)
                continue
            assert isinstance(message, Take)
            assert connection is not None
            connection.close()
            found += 1
    for end in (ours, theirs, *callers):
        end.close()
    process.wait()
    return found


def test_a_full_channel_loses_no_connection(listener: socket.socket) -> None:
    """What a busy worker's channel has no room for waits in the kernel until there is."""
    assert CONNECTIONS == asyncio.run(taken(listener))
