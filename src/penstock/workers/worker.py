"""One worker of several: takes connections from the supervisor and serves them as a server of its own would.

python -m penstock.workers.worker 7      the number is the descriptor of its end of the channel
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import sys
from collections.abc import Coroutine
from typing import Any

from penstock.app import Assembled, TellingServer, assembled, counted, serve_until_stopped, served
from penstock.audit import Place, records_after
from penstock.errors import PenstockError, SegmentError
from penstock.loading import resident_bytes
from penstock.logs import set_up_logs
from penstock.server.measures import Measures
from penstock.swaps import Swaps
from penstock.telemetry import FamilyState, Registry
from penstock.workers import channel
from penstock.workers.channel import (
    Applied,
    Attach,
    Beat,
    Configure,
    EndSegment,
    Failed,
    Leave,
    Ready,
    Sum,
    Summed,
    Swap,
    Take,
    Took,
    Unready,
)

_LOG = logging.getLogger("penstock")
_BEAT_S = 0.25
_SUM_S = 2.0
_AGAIN_S = 0.02


class Attendant:
    """Sits at the channel: takes connections, answers the supervisor, asks it for the metrics of all."""

    def __init__(self, end: socket.socket, configure: Configure) -> None:
        self._end = end
        self._worker, self._url = configure.worker, configure.url
        self._parts: Assembled | None = None
        self._server: TellingServer | None = None
        self._sums: list[asyncio.Future[str]] = []
        self._tasks: set[asyncio.Task[Any]] = set()  # connections on their way in
        self._works: set[asyncio.Task[Any]] = set()
        self._taken = 0
        self._arrived: list[socket.socket] = []  # taken, and the supervisor has yet to hear of it

    async def run(self, parts: Assembled) -> None:
        """Serve until told to leave, or until the supervisor is gone."""
        self._parts = parts
        self._server = TellingServer(parts.config, parts.host, lambda: self._tell_ready(parts))
        loop = asyncio.get_running_loop()
        loop.add_reader(self._end, self._hear)
        self._hear()  # the sockets of native processes are there already
        await asyncio.gather(*self._works, return_exceptions=True)
        beat = loop.create_task(self._beat())
        await serve_until_stopped(self._server, parts.log, [], parts.grpc)
        beat.cancel()
        self._send_beat()

    async def all_metrics(self) -> str:
        """The metrics of all workers; this one's alone when the supervisor does not answer."""
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._sums.append(asked)
        channel.send(self._end, Sum(self._counted(), self._place()))
        return await asyncio.wait_for(asked, _SUM_S)

    def _tell_ready(self, parts: Assembled) -> None:
        models, swaps = served(parts.host.models(), self._url), parts.swaps
        channel.send(self._end, Ready(models, parts.log.where, resident_bytes(), swaps.revision, swaps.failures))

    def _hear(self) -> None:
        while True:
            try:
                message, connection = channel.received_by_worker(self._end)
            except BlockingIOError:
                self._admit()
                return
            except OSError:
                message, connection = None, None
            match message:
                case Take():
                    self._taken += 1
                    if connection is not None:  # there are files to be had
                        self._arrived.append(connection)
                case Attach() if connection is not None:
                    self._attach(message, connection)
                case Swap() if self._parts is not None:
                    self._work(self._take_up(self._parts.swaps, message))
                case EndSegment() if self._parts is not None:
                    self._parts.log.turn()
                case Summed():
                    self._tell_sums(message.text)
                case Unready():
                    self._be_unready()
                case Leave() | None:
                    if message is None:  # the supervisor is gone, and with it the server
                        self._be_unready()
                    asyncio.get_running_loop().remove_reader(self._end)
                    self._tell_taken()
                    self._let_in()
                    if self._server is not None:
                        self._server.should_exit = True
                    return

    def _be_unready(self) -> None:
        if self._parts is not None:
            self._parts.host.is_stopping = True

    def _admit(self) -> None:
        """Let in what has arrived, once the supervisor can know: it gives to another what was not taken when this one
        dies, and that must not have been read.
        """
        if not self._arrived:
            return
        if self._tell_taken():
            self._let_in()
        else:
            asyncio.get_running_loop().call_later(_AGAIN_S, self._admit)

    def _tell_taken(self) -> bool:
        return channel.send(self._end, Took(self._taken, self._connections))

    def _let_in(self) -> None:
        arrived, self._arrived = self._arrived, []
        for connection in arrived:
            connection.setblocking(False)
            self._spawn(asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection))

    @property
    def _connections(self) -> int:
        """Those that are open, and those on their way in."""
        are_open = 0 if self._server is None else len(self._server.server_state.connections)
        return are_open + len(self._arrived) + len(self._tasks)

    def _attach(self, message: Attach, end: socket.socket) -> None:
        if self._parts is not None:
            self._work(self._parts.swaps.attach((message.name, message.version), end))

    async def _take_up(self, swaps: Swaps, swap: Swap) -> None:
        if await swaps.take_up(swap.wanted, swap.apart):
            channel.send(self._end, Applied(swaps.revision, swaps.failures, swap.turn))

    def _work(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _protocol(self) -> asyncio.Protocol:
        if self._server is None:
            raise PenstockError("a connection came before the worker was ready")
        config = self._server.config
        made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=self._server.server_state, app_state=self._server.lifespan.state
        )
        return made

    def _tell_sums(self, text: str) -> None:
        asked, self._sums = self._sums, []
        for future in asked:
            if not future.done():
                future.set_result(text)

    async def _beat(self) -> None:
        while True:
            self._send_beat()
            await asyncio.sleep(_BEAT_S)

    def _send_beat(self) -> None:
        channel.send(self._end, Beat(self._connections, self._counted(), self._place(), self._taken))

    def _place(self) -> tuple[str, int, int] | None:
        place = None if self._parts is None else self._parts.log.place
        return None if place is None else (place.segment, place.at_bytes, place.answered)

    def _counted(self) -> list[FamilyState]:
        return [] if self._parts is None else counted(self._parts.registry, self._worker)


def recount(parts: Assembled, place: Place) -> None:
    """Count what the worker before wrote after it last told its numbers: what it answered is in its log."""
    measures = Measures(parts.registry)
    try:
        for record in records_after(place):
            parts.log.add_recorded(1)
            if record.seq > place.answered:  # with `async` the answers are told of before the records are written
                measures.recount(record)
    except SegmentError as error:
        _LOG.warning("the sums lack what the worker before answered last: %s", error)


def main() -> None:
    """Serve as the supervisor says. Exits 1, having said why, when the models cannot be served."""
    end = socket.socket(fileno=int(sys.argv[1]))
    end.setblocking(False)
    select.select([end], [], [])
    configure, _ = channel.received_by_worker(end)
    if not isinstance(configure, Configure):
        return  # the supervisor is gone already
    attendant = Attendant(end, configure)
    registry = Registry()
    try:
        set_up_logs(configure.settings.log, configure.worker)
        with assembled(
            configure.settings,
            configure.wanted,
            worker=configure.worker,
            metrics=attendant.all_metrics,
            apart=configure.apart,
            registry=registry,
        ) as parts:
            if configure.untold is not None:
                recount(parts, Place(*configure.untold))
            parts.runner.run(attendant.run(parts))
            is_loading = parts.swaps.is_loading
    except PenstockError as error:
        channel.send(end, Beat(0, registry.state()))  # what could not be loaded is counted, too
        channel.send(end, Failed(str(error)))
        sys.exit(1)
    if is_loading:  # a thread in a library must not keep the process, nor be taken down with Python around it
        logging.shutdown()
        os._exit(0)


if __name__ == "__main__":
    main()
