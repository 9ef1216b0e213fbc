"""Connections between supervisor and workers, without processes: none is lost, and the counts are right."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from penstock.address import listen
from penstock.routing import NOTHING
from penstock.settings import LimitsSettings, ServerSettings, Settings
from penstock.workers import channel
from penstock.workers.channel import Beat, Leave, Ready, Take, Took
from penstock.workers.standings import Worker
from penstock.workers.supervisor import Supervisor
from running import read_answer, request

CONNECTIONS = 200


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen(ServerSettings(port=0)) as made:
        made.setblocking(False)
        yield made


class Scene:
    """A supervisor whose workers are the far ends of channels, `ends`."""

    def __init__(self, listener: socket.socket, workers: int, *, most: int = 1000, room_bytes: int = 1 << 20) -> None:
        settings = Settings(server=ServerSettings(workers=workers), limits=LimitsSettings(connections=most))
        self.supervisor = Supervisor(settings, NOTHING, listener, on_start=lambda started: None)
        self.address = listener.getsockname()
        self.ends: list[socket.socket] = []
        self.workers: list[Worker] = []
        for number in range(workers):
            ours, theirs = channel.pair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room_bytes)
            worker = Worker(number, subprocess.Popen(["true"]), ours)
            worker.ready = Ready([], "", 0)
            self.supervisor._workers.append(worker)
            asyncio.get_running_loop().add_reader(ours, self.supervisor._hear, worker)
            self.workers.append(worker)
            self.ends.append(theirs)
        self.supervisor._is_started = True
        self.supervisor._acceptor.begin()

    def call(self) -> socket.socket:
        """A caller's new connection, on which its name is sent."""
        made = socket.create_connection(self.address, timeout=20)
        made.sendall(b"%d" % made.getsockname()[1])
        return made

    def close(self) -> None:
        self.supervisor._acceptor.close()
        for end in self.ends:
            end.close()
        for worker in self.workers:
            for connection in worker.untaken:
                connection.close()
            worker.process.wait()
        for worker in self.supervisor._workers:
            asyncio.get_running_loop().remove_reader(worker.end)
            worker.end.close()


def arrived(end: socket.socket) -> list[socket.socket]:
    """The connections that are there for a worker to take."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            message, connection = channel.received_by_worker(end)
            assert isinstance(message, Take) and connection is not None
            found.append(connection)
    return found


def names(connections: list[socket.socket]) -> set[bytes]:
    """What was sent on them by their callers; closes them."""
    told = set()
    for connection in connections:
        with connection:
            connection.setblocking(True)
            told.add(connection.recv(64))
    return told


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


def test_a_full_channel_loses_no_connection(listener: socket.socket) -> None:
    """What a busy worker's channel has no room for waits until there is."""

    async def play() -> int:
        scene = Scene(listener, 1, room_bytes=4096)
        callers = [scene.call() for _ in range(CONNECTIONS)]
        await until(lambda: scene.supervisor._acceptor.has_waiting)
        taken: list[socket.socket] = []

        def take() -> bool:
            taken.extend(arrived(scene.ends[0]))
            return len(taken) == CONNECTIONS

        await until(take)
        scene.close()
        found = names(taken)
        for caller in callers:
            caller.close()
        return len(found)

    assert CONNECTIONS == asyncio.run(play())


def test_what_a_dead_worker_had_not_taken_goes_to_another(listener: socket.socket) -> None:
    """Of ten connections that were handed to a worker it has told that it took four when it dies: six go on."""

    async def play() -> tuple[set[bytes], set[bytes]]:
        scene = Scene(listener, 2)
        dying, other = scene.workers
        other.told(0, 50)  # so that all go to the first
        callers = [scene.call() for _ in range(10)]
        await until(lambda: len(dying.untaken) == 10)
        taken = []
        for _ in range(6):  # the last two are received, but it dies before it can say so
            message, connection = channel.received_by_worker(scene.ends[0])
            assert isinstance(message, Take) and connection is not None
            taken.append(connection)
        channel.send(scene.ends[0], Took(4, 4))
        for connection in taken[4:]:
            connection.close()
        known = names(taken[:4])
        scene.supervisor._is_stopping = True  # so that no worker is started in its place
        scene.ends[0].close()  # with four unread
        await until(lambda: len(other.untaken) == 6)
        given = names(arrived(scene.ends[1]))
        everybody = {b"%d" % caller.getsockname()[1] for caller in callers}
        scene.close()
        for caller in callers:
            caller.close()
        assert known | given == everybody
        return known, given

    known, given = asyncio.run(play())
    assert (4, 6, set()) == (len(known), len(given), known & given)


def test_a_beat_from_before_does_not_undo_what_was_handed_since(listener: socket.socket) -> None:
    """A worker's connections are those that it tells of and those that it has not taken yet."""

    async def play() -> list[int]:
        scene = Scene(listener, 1)
        [worker], [end] = scene.workers, scene.ends
        callers = [scene.call() for _ in range(5)]
        await until(lambda: len(worker.untaken) == 5)
        seen = [worker.connections]
        channel.send(end, Beat(2, [], None, 3))  # it took three, and one of them has ended
        await until(lambda: len(worker.untaken) == 2)
        seen.append(worker.connections)
        channel.send(end, Took(5, 4))
        await until(lambda: not worker.untaken)
        seen.append(worker.connections)
        for connection in (*arrived(end), *callers):
            connection.close()
        scene.close()
        return seen

    assert [5, 4, 4] == asyncio.run(play())


def test_a_worker_with_a_full_channel_is_told_to_leave(listener: socket.socket) -> None:
    """The end of its channel tells it, after all that was sent before."""

    async def play() -> tuple[int, object]:
        scene = Scene(listener, 1, room_bytes=4096)
        [worker], [end] = scene.workers, scene.ends
        sent = 0
        while channel.send(worker.end, Take()):
            sent += 1
        assert not channel.send(worker.end, Leave())
        scene.supervisor._dismiss(worker)
        read = 0
        while isinstance(message := channel.received_by_worker(end)[0], Take):
            read += 1
        assert channel.send(end, Took(0, 0))  # it can still be heard
        scene.close()
        return sent - read, message

    assert (0, None) == asyncio.run(play())


def test_full_workers_get_no_more(listener: socket.socket) -> None:
    """Two workers with as many connections as they may: the next caller is refused, and once there is room let in."""

    async def play() -> tuple[int, str, str, list[int]]:
        scene = Scene(listener, 2, most=2)
        callers = [scene.call() for _ in range(4)]
        await until(lambda: [2, 2] == [worker.connections for worker in scene.workers])
        with scene.call() as refused:
            refused.sendall(request("/"))
            await asyncio.sleep(0.05)
            for end in scene.ends:
                channel.send(end, Took(0, 0))  # nothing new, which is what it waits for
            answer = await asyncio.to_thread(read_answer, refused)
        handed = [worker.connections for worker in scene.workers]
        for end in scene.ends:
            for connection in arrived(end):
                connection.close()
        scene.workers[1].told(2, 1)
        callers.append(scene.call())
        await until(lambda: len(scene.workers[1].untaken) == 1)
        scene.close()
        for caller in callers:
            caller.close()
        return answer.status, answer.headers["retry-after"], answer.headers["connection"], handed

    assert (503, "1", "close", [2, 2]) == asyncio.run(play())
