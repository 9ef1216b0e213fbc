"""The supervisor: binds the port, has an acceptor hand connections to workers, restarts workers that die.

It imports nothing heavy and answers nothing itself. As it alone listens, a restart of a worker loses no connection
that waits to be accepted, and connections are balanced by count, not by the kernel's hash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.address import grpc_address, listen, require_safe_address, reserved_grpc_port, url_of
from penstock.cores import cores, workers_of
from penstock.errors import PenstockError
from penstock.given import given, is_given
from penstock.notify import NOBODY, READY, STOPPING, Notify
from penstock.routing import Wanted, read_wanted
from penstock.server.http.door import Door
from penstock.settings import Settings
from penstock.started import Started
from penstock.telemetry import FamilyState, Registry, lasting
from penstock.workers import channel
from penstock.workers.acceptor import Acceptor
from penstock.workers.channel import (
    Applied,
    Beat,
    Configure,
    EndSegment,
    Failed,
    Leave,
    Ready,
    Standing,
    Sum,
    Summed,
    Took,
    Unready,
)
from penstock.workers.governor import Governor
from penstock.workers.natives import Natives
from penstock.workers.spawn import BackOff, fate_of, spawn
from penstock.workers.standings import Standings, Worker

_LOG = logging.getLogger("penstock")
_HUNG_S = 30.0
_WATCH_S = 0.5
_START_S = 120.0
_LAST_WORDS_S = 5.0


class Supervisor:
    """Keeps the workers and the processes of native models serving on `listener`, and a controller beside them unless
    the command line gave what is `wanted`. On one event loop.
    """

    def __init__(
        self,
        settings: Settings,
        wanted: Wanted,
        listener: socket.socket,
        *,
        on_start: Callable[[Started], None],
        notify: Notify = NOBODY,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._on_start = on_start
        self._notify = notify
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers: list[Worker] = []
        self._ended: list[subprocess.Popen[bytes]] = []  # to be reaped
        self._dead = Registry()
        self._restarts = self._dead.counter("penstock_worker_restarts_total", "Workers started again.", ("worker",))
        self._count = settings.server.workers or 1
        self._rests = [BackOff() for _ in range(self._count)]
        self._natives = Natives(settings, workers=lambda: [(worker.number, worker.end) for worker in self._workers])
        self._standings = Standings(
            Path(settings.home), wanted, self._natives, workers=lambda: self._workers, tell=self._tell_standing
        )
        self._governor = None if is_given(wanted) else self._governor_of(settings, listener)
        most = settings.limits.connections
        door = Door(most * self._count, self._dead)
        self._acceptor = Acceptor(listener, self._takers, most=most, door=door)
        self._is_started = False
        self._is_stopping = False
        self._is_unready = False
        self._stopped = asyncio.Event()
        self._failure: str | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises PenstockError when the first workers cannot start."""
        self._loop.add_signal_handler(signal.SIGTERM, self._stop_in_order)
        self._loop.add_signal_handler(signal.SIGINT, self._stop_in_order)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._roll()))
        if self._governor is not None:
            self._governor.start()
        self._spawn(self._watch())
        self._spawn(self._start_all())
        await self._stopped.wait()
        for task in self._tasks:
            task.cancel()
        self._notify.tell(STOPPING)
        await self._end_all()
        if self._failure is not None:
            raise PenstockError(self._failure)

    def _governor_of(self, settings: Settings, listener: socket.socket) -> Governor:
        return Governor(
            settings, url_of(listener), on_word=self._hear_governor, on_turn=self._turn, on_failure=self._fail_to_start
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_all(self) -> None:
        for name, why in (await self._standings.begin()).items():
            _LOG.error("%s cannot be served: %s", name, why)
            if self._governor is None:
                self._fail(why)
        for number in range(self._count):
            if not self._is_stopping:
                self._start(number)

    def _hear_governor(self) -> None:
        """There may be something new to serve; or the controller is new, or there is none."""
        self._spawn(self._standings.take_up())
        self._standings.look(again=True)
        self._open()

    def _turn(self) -> None:
        for worker in self._workers:
            channel.send(worker.end, EndSegment())

    def _tell_standing(self, standing: Standing) -> None:
        if self._governor is not None and not self._is_stopping:
            self._governor.tell(standing)

    def _fail_to_start(self, why: str) -> None:
        if not self._is_started:
            self._fail(why)

    def _start(self, number: int, untold: tuple[str, int, int] | None = None) -> Worker:
        process, ours = spawn("penstock.workers.worker", threads=max(1, cores() // self._count))
        worker = Worker(number, process, ours)
        worker.place = untold
        worker.turn = self._standings.turn
        self._workers.append(worker)
        self._loop.add_reader(ours, self._hear, worker)
        url, apart = url_of(self._listener), self._natives.loaded()
        channel.send(ours, Configure(self._settings, self._standings.wanted, number, url, apart, untold))
        self._natives.join(number, ours)
        return worker

    def _hear(self, worker: Worker) -> None:
        try:
            message = channel.received_by_supervisor(worker.end)
        except BlockingIOError:
            return
        except (OSError, msgspec.DecodeError):
            message = None
        worker.heard_s = time.monotonic()
        match message:
            case None:
                self._bury(worker)
            case Ready():
                self._welcome(worker, message)
            case Failed():
                self._give_up(worker, message)
            case Took():
                worker.told(message.taken, message.connections)
            case Applied():
                worker.applied(message)
                self._standings.look()
            case Beat():
                worker.told(message.taken, message.connections)
                worker.counted, worker.place = _registry(message.counted), message.place or worker.place
            case Sum():
                worker.counted, worker.place = _registry(message.counted), message.place or worker.place
                channel.send(worker.end, Summed(self._text()))

    def _welcome(self, worker: Worker, ready: Ready) -> None:
        worker.ready = ready
        worker.applied(ready)
        if self._is_unready:
            channel.send(worker.end, Unready())
        if self._is_stopping:
            return
        self._standings.look()
        self._open()
        self._acceptor.look()

    def _open(self) -> None:
        """Begin to take calls, once all workers are there (connections wait in the kernel's queue, so that the first
        ones are shared evenly), and it is known whether a controller governs.
        """
        ready = [worker.ready for worker in self._workers if worker.ready is not None]
        is_governed = self._governor is None or self._governor.is_settled
        if (
            self._is_started
            or self._is_stopping
            or not is_governed
            or len(ready) < max(self._count, len(self._workers))
        ):
            return
        self._is_started = True
        self._on_start(
            Started(
                url=url_of(self._listener),
                workers=self._count,
                models=ready[-1].models,
                segment=ready[-1].segment,
                worker_bytes=ready[-1].resident_bytes,
                grpc=grpc_address(self._settings.server),
                control=None if self._governor is None else self._governor.url,
            )
        )
        self._notify.tell(READY)
        self._spawn(self._notify.tell_alive())
        self._acceptor.begin()

    def _give_up(self, worker: Worker, failed: Failed) -> None:
        if not self._is_started:
            self._fail(failed.message)
        else:
            _LOG.error("worker %d cannot start: %s", worker.number, failed.message)

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._stop()

    def _takers(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.ready is not None and not worker.is_leaving]

    def _bury(self, worker: Worker) -> None:
        """Note what a dead worker had counted, and start another unless it was to go."""
        self._loop.remove_reader(worker.end)
        worker.end.close()
        self._workers.remove(worker)
        self._ended.append(worker.process)
        self._dead.merge(lasting(worker.counted.state()))
        self._acceptor.take_back(worker)
        if self._is_stopping:
            worker.fate = "was to leave"
            return
        fate = worker.fate = fate_of(worker.process, 0.05 if self._is_started else _LAST_WORDS_S)
        self._standings.look()
        if not self._is_started:
            self._fail(
                f"Expected worker {worker.number} to serve, but it {fate} before it was ready: see above for why"
            )
        elif not worker.is_leaving and not self._has_other(worker):
            wait_s = self._rests[worker.number].after_s(worker.lived_s)
            _LOG.error("worker %d %s; another starts in %.1f s", worker.number, fate, wait_s)
            self._restarts.child(worker=str(worker.number)).inc()
            self._loop.call_later(wait_s, self._start_again, worker.number, worker.place)
        else:
            _LOG.info("worker %d %s", worker.number, fate)

    def _has_other(self, worker: Worker) -> bool:
        """Whether its place is taken: in a rolling restart two have one number, and either of them may die."""
        return any(other.number == worker.number and not other.is_leaving for other in self._workers)

    def _start_again(self, number: int, untold: tuple[str, int, int] | None) -> None:
        if not self._is_stopping:
            self._start(number, untold)

    async def _watch(self) -> None:
        """Reap processes, and end a worker that has not been heard for long."""
        while True:
            await asyncio.sleep(_WATCH_S)
            self._ended = [process for process in self._ended if process.poll() is None]
            now_s = time.monotonic()
            self._natives.watch(now_s)
            if self._governor is not None:
                self._governor.watch()
            for worker in list(self._workers):
                allowed_s = _HUNG_S if worker.ready is not None else _START_S
                if now_s - worker.heard_s > allowed_s:
                    _LOG.error("worker %d has been silent for %.0f s: ending it", worker.number, allowed_s)
                    worker.process.kill()

    async def _roll(self) -> None:
        """Replace the processes one at a time: the new one serves before the old one leaves."""
        await self._natives.roll()
        for old in self._takers():
            if self._is_stopping:
                return
            fresh = self._start(old.number)
            until_s = time.monotonic() + _START_S
            while fresh.ready is None and fresh in self._workers and time.monotonic() < until_s:
                await asyncio.sleep(0.05)
            if fresh.ready is None:
                _LOG.error("worker %d is not replaced: the new one did not start", old.number)
                return
            self._dismiss(old)
            while old in self._workers:
                await asyncio.sleep(0.05)

    def _dismiss(self, worker: Worker) -> None:
        worker.is_leaving = True
        self._acceptor.look()
        if not channel.send(worker.end, Leave()):
            with contextlib.suppress(OSError):
                worker.end.shutdown(socket.SHUT_WR)  # its channel is full: at its end the worker leaves as well
        self._loop.call_later(self._settings.server.drain_s + 5.0, worker.process.kill)

    def _stop_in_order(self) -> None:
        """Be not ready for a while, as the settings say; then, or when told again, stop."""
        wait_s = self._settings.server.unready_s
        if self._is_unready or not wait_s:
            self._stop()
            return
        self._be_unready()
        self._loop.call_later(wait_s, self._stop)

    def _be_unready(self) -> None:
        self._is_unready = True
        for worker in self._workers:
            channel.send(worker.end, Unready())

    def _stop(self) -> None:
        self._be_unready()
        self._is_stopping = True
        self._acceptor.end()
        self._stopped.set()

    async def _end_all(self) -> None:
        """Stop listening, let every worker answer what is under way, and wait for them."""
        until_s = time.monotonic() + self._settings.server.drain_s + 6.0
        await self._acceptor.drain(until_s)
        for worker in list(self._workers):
            self._dismiss(worker)
        processes = [*self._ended, *(worker.process for worker in self._workers)]
        while any(process.poll() is None for process in processes) and time.monotonic() < until_s:
            await asyncio.sleep(0.02)
        self._natives.end()
        processes += self._natives.processes()
        if self._governor is not None:
            self._governor.leave()
            processes += self._governor.processes()
        while any(process.poll() is None for process in processes) and time.monotonic() < until_s:
            await asyncio.sleep(0.02)
        for process in processes:
            if process.poll() is None:
                process.kill()
        self._acceptor.close()

    def _text(self) -> str:
        for label, count in self._natives.restarts().items():
            self._restarts.child(worker=label).value = count
        if self._governor is not None and self._governor.restarts:
            self._restarts.child(worker="controller").value = self._governor.restarts
        every = Registry()
        every.merge(self._dead.state())
        for worker in self._workers:
            every.merge(worker.counted.state())
        every.merge(self._natives.counted())
        every.merge([] if self._governor is None else self._governor.counted)
        return every.text()


def _registry(counted: list[FamilyState]) -> Registry:
    registry = Registry()
    registry.merge(counted)
    return registry


def supervise(
    settings: Settings, bundles: Sequence[Path], *, on_start: Callable[[Started], None], notify: Notify = NOBODY
) -> None:
    """Serve by several workers until SIGTERM or SIGINT: `bundles`, or without any what the home's control plane wants.

    Blocks. Raises SettingsError and PenstockError.
    """
    require_safe_address(settings.server)
    count = workers_of(settings.server.workers) or 1
    native = msgspec.structs.replace(settings.native, processes=min(settings.native.processes, count))
    server = msgspec.structs.replace(settings.server, workers=count)
    settings = msgspec.structs.replace(settings, server=server, native=native)
    wanted = given(bundles, server.default_model) if bundles else read_wanted(Path(settings.home))
    with reserved_grpc_port(settings) as ours, listen(settings.server) as listener:
        listener.setblocking(False)

        async def run() -> None:
            await Supervisor(ours, wanted, listener, on_start=on_start, notify=notify).run()

        asyncio.run(run())
