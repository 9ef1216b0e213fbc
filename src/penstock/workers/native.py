"""The processes of a native model: one that has loaded and proven it, and forks those that compute.

python -m penstock.workers.native 7      the number is the descriptor of its end of the channel

Importing scikit-learn and pandas takes seconds, a fork milliseconds: so what is killed is back at once. Only a process
of one thread forks; one whose library has started others computes itself, and is loaded again when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import select
import signal
import socket
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from penstock.errors import DeadlineExceeded, ModelFailed, PenstockError
from penstock.loading import load_model
from penstock.logs import set_up_logs
from penstock.runtime import Model
from penstock.runtime.compute import OVERDUE, computed, refused
from penstock.runtime.wire import MAX_FRAME_BYTES, Drop, Frames, MalformedFrame, Ran, Run, asked, frame, unpacked
from penstock.schema import Columns
from penstock.started import Loaded
from penstock.telemetry import process_state
from penstock.workers import channel
from penstock.workers.channel import Attend, Beat, Begin, Failed, Leave, Load, Up

_BEAT_S = 0.25
_EVERY_THREAD = Path("/proc/self/task")


class Desk:
    """Computes the runs of all workers, one after the other, in a thread: first come, first served.

    A worker sends its next run when the last one is answered, so none of them can crowd the others out.
    """

    def __init__(self, model: Model, *, limit_s: float) -> None:
        self.model = model
        self._limit_s = limit_s
        self._waiting: deque[tuple[Line, Run, Columns]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="run")
        self._is_busy = False
        self.lines: set[Line] = set()

    def put(self, line: Line, run: Run, columns: Columns) -> None:
        """Compute `run` in its turn and answer it on `line`."""
        self._waiting.append((line, run, columns))
        self._next()

    def drop(self, line: Line, number: int) -> None:
        """Compute that run no more, unless it has begun."""
        for waiting in list(self._waiting):
            if waiting[0] is line and waiting[1].id == number:
                self._waiting.remove(waiting)
                line.answer(refused(waiting[1], DeadlineExceeded(OVERDUE)))

    def forget(self, line: Line) -> None:
        """The worker at the other end is gone."""
        self.lines.discard(line)
        self._waiting = deque(waiting for waiting in self._waiting if waiting[0] is not line)

    def _next(self) -> None:
        if self._is_busy or not self._waiting:
            return
        self._is_busy = True
        line, run, columns = self._waiting.popleft()
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._compute, run, columns)
        running.add_done_callback(lambda done: self._after(line, done))

    def _compute(self, run: Run, columns: Columns) -> Ran:
        # The kernel's own timer ends the process, even where the run holds Python's lock or is lost in a library.
        signal.setitimer(signal.ITIMER_REAL, self._limit_s)
        try:
            return computed(self.model, run, columns)
        except Exception as bug:  # the edge to a model's own answers: its callers must never be left without one
            return refused(run, ModelFailed.raised("the model's answer cannot be sent:", bug))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _after(self, line: Line, done: asyncio.Future[Ran]) -> None:
        self._is_busy = False
        line.answer(done.result())
        self._next()


class Line(asyncio.Protocol):
    """The connection to one worker."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._frames = Frames(MAX_FRAME_BYTES)
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._desk.lines.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._frames.of(data):
                match asked(payload):
                    case Run() as run:
                        self._desk.put(self, run, unpacked(run, self._desk.model.schema))
                    case Drop(id=number):
                        self._desk.drop(self, number)
        except MalformedFrame:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._desk.forget(self)

    def answer(self, ran: Ran) -> None:
        """Send `ran`, if the worker is still there."""
        if not self._transport.is_closing():
            self._transport.write(frame(ran))


async def attend(end: socket.socket, desk: Desk, label: str) -> None:
    """Answer the workers whose sockets come by the channel, until told to leave and all are gone; or the supervisor."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    tasks: set[asyncio.Task[Any]] = set()
    is_leaving = False

    def hear() -> None:
        nonlocal is_leaving
        with contextlib.suppress(BlockingIOError):
            while True:
                match channel.received_by_native(end):
                    case Attend(), worker if worker is not None:
                        worker.setblocking(False)
                        task = loop.create_task(loop.connect_accepted_socket(lambda: Line(desk), worker))
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
                    case (Leave() | None) as last, _:
                        is_leaving = True  # without a supervisor, the workers leave by themselves
                        told.set()
                        if last is None:
                            loop.remove_reader(end)
                            return

    loop.add_reader(end, hear)
    channel.send(end, Up(os.getpid()))
    while not is_leaving or desk.lines or tasks:
        channel.send(end, Beat(len(desk.lines), process_state({"worker": label})))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), _BEAT_S)
        if is_leaving:
            await asyncio.sleep(_BEAT_S / 10)


def compute(model: Model, end: socket.socket, load: Load) -> None:
    """Compute until the supervisor says to leave."""
    # What hangs dies by SIGALRM; before that, where it hung goes to stderr.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
    desk = Desk(model, limit_s=load.limit_s)
    asyncio.run(attend(end, desk, load.label))
    # A thread that hangs in a run must not keep the process.
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    """Load, prove and measure the model, then fork a process for each `Begin`. Exits 1 when it cannot be loaded."""
    # Both reach the whole group; the workers still need this process to answer what is under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[1]))
    load, _ = _received(end)
    if not isinstance(load, Load):
        return  # the supervisor is gone already
    set_up_logs(load.settings.log)
    try:
        model = load_model(Path(load.bundle), load.version, load.settings)
    except PenstockError as error:
        channel.send(end, Failed(str(error)))
        sys.exit(1)
    except Exception as error:  # the edge of the process: a library's own error must reach the operator
        channel.send(end, Failed(f"{load.bundle}: {type(error).__name__}: {error}"))
        raise
    gc.collect()
    gc.freeze()
    channel.send(end, Loaded(model.name, model.version, model.digest, *_costs(model)))
    _fork_on_demand(model, end, load)


def _costs(model: Model) -> tuple[float, float, int]:
    return model.cost.row_us, model.cost.rows_64_us, model.cost.memory_bytes


def _fork_on_demand(model: Model, end: socket.socket, load: Load) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    while True:
        message, handle = _received(end)
        if not isinstance(message, Begin) or handle is None:
            return
        is_alone = len(list(_EVERY_THREAD.iterdir())) == 1
        if not is_alone or os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if is_alone:
                end.close()
            handle.setblocking(False)
            compute(model, handle, load)
        handle.close()


def _received(end: socket.socket) -> tuple[channel.ToNative | None, socket.socket | None]:
    end.setblocking(False)
    select.select([end], [], [])
    return channel.received_by_native(end)


if __name__ == "__main__":
    main()
