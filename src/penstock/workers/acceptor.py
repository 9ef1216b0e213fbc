"""The supervisor's side of connections: accepts them, and hands each to the worker that has the fewest.

A connection is kept here as well until its worker has said that it took it, before it reads anything of it: what a
worker had not taken when it died goes to another. When every worker has as many as it may (`limits.connections`), new
ones wait in the kernel's queue until all have said so once more, and are then refused here, at no cost to the workers.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from penstock.address import BACKLOG
from penstock.server.http.door import Door
from penstock.workers import channel
from penstock.workers.channel import Take
from penstock.workers.spawn import Channelled

_LOG = logging.getLogger("penstock")
_ACCEPTS_A_TURN: Final = 64
_REST_S: Final = 0.5
_FULL_S: Final = 0.02
_PATIENCE_S: Final = 1.0
_MOST_TURNED_AWAY: Final = 256


class Taker(Channelled):
    """A worker, as far as connections go."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end)
        self.untaken: deque[socket.socket] = deque()  # handed to it; it has not said that it took them
        self.told_s = self.started_s
        self._taken = 0
        self._open = 0

    @property
    def connections(self) -> int:
        """What it last said that it has, and what it has been handed since."""
        return self._open + len(self.untaken)

    def hand(self, connection: socket.socket) -> bool:
        """Send `connection` to it, unless its channel is full or at an end."""
        if not channel.send(self.end, Take(), connection):
            return False
        self.untaken.append(connection)
        return True

    def told(self, taken: int, connections: int) -> None:
        """It has taken `taken` in its life, and has `connections` now."""
        for _ in range(taken - self._taken):
            self.untaken.popleft().close()
        self.told_s = time.monotonic()
        self._taken = max(taken, self._taken)
        self._open = connections


class Acceptor:
    """Takes what waits at `listener` to the workers of `takers`, on the running event loop.

    `door` is that of all workers together and each of them may have `most` connections.
    """

    def __init__(
        self, listener: socket.socket, takers: Callable[[], Sequence[Taker]], *, most: int, door: Door
    ) -> None:
        self._listener = listener
        self._takers = takers
        self._most = most
        self._door = door
        self._waiting: deque[socket.socket] = deque()  # accepted, and at no worker
        self._turned_away: list[asyncio.Transport] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_on = False
        self._is_listening = False
        self._is_resting = False
        self._is_last_call = False
        self._full_since_s: float | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def has_waiting(self) -> bool:
        """Whether there are connections that were accepted and that no worker could be handed yet."""
        return bool(self._waiting)

    def begin(self) -> None:
        """Accept from now on, as long as there is somebody to take what comes."""
        self._is_on = True
        self.look()

    def end(self) -> None:
        """Accept no more by itself; `drain` still does."""
        self._is_on = False
        self.look()

    def look(self) -> None:
        """Listen, or leave the listener alone: workers have come or gone, or a rest is over."""
        wanted = self._is_on and not self._is_resting and bool(self._takers())
        if wanted and self._waiting:
            self._accept()
            wanted = not self._is_resting
        if wanted and not self._is_listening:
            self._loop.add_reader(self._listener, self._accept)
        elif not wanted and self._is_listening:
            self._loop.remove_reader(self._listener)
        self._is_listening = wanted

    def take_back(self, taker: Taker) -> None:
        """Hand to others what `taker`, which is dead, had not taken. Nobody has read anything of it."""
        self._waiting.extend(taker.untaken)
        taker.untaken.clear()
        self.look()

    async def drain(self, until_s: float) -> None:
        """Hand over what the kernel has accepted for us, which closing the listener resets, and close it."""
        self._is_last_call = True
        while self._takers() and time.monotonic() < until_s:
            self._accept(BACKLOG)
            if not self._waiting:
                break
            await asyncio.sleep(_FULL_S)
        self._listener.close()

    def close(self) -> None:
        """Let go of what nobody took."""
        for connection in self._waiting:
            connection.close()
        for transport in self._turned_away:
            transport.abort()

    def _accept(self, most: int = _ACCEPTS_A_TURN) -> None:
        for _ in range(most):
            takers = self._with_room()
            if not takers and not self._may_refuse():
                self._rest(_FULL_S)
                return
            try:
                connection = self._waiting.popleft() if self._waiting else self._listener.accept()[0]
            except (BlockingIOError, InterruptedError):
                self._full_since_s = None
                return
            except ConnectionError:  # the caller is gone already
                continue
            except OSError as error:  # too many open files: the connection waits, and asking at once would not end
                _LOG.warning("no connection can be accepted for %.1f s: %s", _REST_S, error)
                self._rest(_REST_S)
                return
            if not takers:
                self._turn_away(connection)
            elif any(taker.hand(connection) for taker in takers):
                self._full_since_s = None
            else:  # the workers are too busy to take more: the others wait in the kernel
                self._waiting.appendleft(connection)
                self._rest(_FULL_S)
                return

    def _with_room(self) -> list[Taker]:
        """Those that may have another connection, the one with the fewest first. At the last call the workers' own
        doors refuse what is too much.
        """
        takers = sorted(self._takers(), key=lambda one: one.connections)
        return takers if self._is_last_call else [taker for taker in takers if taker.connections < self._most]

    def _may_refuse(self) -> bool:
        """Whether every worker has said so since somebody waits, and refusing is no burden itself."""
        now_s = time.monotonic()
        self._full_since_s = since_s = self._full_since_s or now_s
        self._turned_away = [transport for transport in self._turned_away if not transport.is_closing()]
        is_sure = now_s - since_s > _PATIENCE_S or all(taker.told_s > since_s for taker in self._takers())
        return is_sure and len(self._turned_away) + len(self._tasks) < _MOST_TURNED_AWAY

    def _turn_away(self, connection: socket.socket) -> None:
        async def meet() -> None:
            await self._loop.connect_accepted_socket(lambda: _AtTheDoor(self._door, self._turned_away), connection)

        connection.setblocking(False)
        task = self._loop.create_task(meet())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _rest(self, for_s: float) -> None:
        """Leave what waits to be accepted alone for a moment."""
        if not self._is_resting:
            self._is_resting = True
            self._loop.call_later(for_s, self._wake)
            self.look()

    def _wake(self) -> None:
        self._is_resting = False
        self.look()


class _AtTheDoor(asyncio.Protocol):
    """A connection that is turned away as soon as it is made."""

    def __init__(self, door: Door, turned_away: list[asyncio.Transport]) -> None:
        self._door = door
        self._turned_away = turned_away

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._turned_away.append(transport)
            transport.set_protocol(self._door.turned_away(transport))
