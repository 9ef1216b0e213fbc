"""A version that another process computes: this side of the connection to it. Workers hold native models so.

The process may go and come back: while it is away every run fails at once with NotReady, and so does what it was
computing when it ended. Its new incarnation comes as a new socket.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence
from typing import Any

from penstock.bundle.bundle import Bundle
from penstock.errors import CallFailure, ModelFailed, NotReady, TooLarge
from penstock.runtime.away import Results, Ticket
from penstock.runtime.version import Cost, Version
from penstock.runtime.wire import (
    MAX_FRAME_BYTES,
    Drop,
    Frames,
    MalformedFrame,
    Ran,
    Run,
    answered,
    failure_of,
    frame,
    packed,
    unpacked_outputs,
)
from penstock.schema import Check

_Settle = Callable[[Ran | None], None]


class RemoteModel(Version):
    """One version of a model that another process computes; `remote` is the way there."""

    def __init__(self, bundle: Bundle, *, version: int, check: Check, cost: Cost) -> None:
        super().__init__(bundle, version=version, check=check, cost=cost)
        self.remote = Remote(self)

    def runs(self) -> RemoteRuns:
        """The runs of one queue; several may ask by the one `remote`."""
        return RemoteRuns(self.remote)


class RemoteRuns:
    """Runs in another process: an `Away`."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._under_way: list[int] = []

    def run(self, tickets: list[Ticket], done: Callable[[Results, float], None]) -> None:
        """As `Away`. Rows that do not fit one frame go in several."""
        self._under_way = self._remote.ask(tickets, done)

    def drop(self) -> None:
        """As `Away`."""
        self._remote.drop(self._under_way)


class Remote:
    """The connection to the process that computes a version. Used on one event loop."""

    def __init__(self, version: Version, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._version = version
        self._max_frame_bytes = max_frame_bytes
        self._line: _Line | None = None
        self._ids = itertools.count(1)

    @property
    def is_up(self) -> bool:
        """Whether the process can be asked."""
        return self._line is not None and self._line.is_open

    async def attach(self, end: socket.socket) -> None:
        """Ask by `end` from now on; what was asked before is still answered where it was asked."""
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        _, line = await loop.connect_accepted_socket(lambda: _Line(self._max_frame_bytes), end)
        old, self._line = self._line, line
        if old is not None:
            old.leave()

    def close(self) -> None:
        """Ask no more."""
        if self._line is not None:
            self._line.leave()

    def ask(self, tickets: list[Ticket], done: Callable[[Results, float], None]) -> list[int]:
        """Have the rows of `tickets` computed, then call `done` as `Away.run` does: the numbers of the frames."""
        line = self._line
        if line is None or not line.is_open:
            why = f"the process that computes {self._version.name!r} is being started again: ask again soon"
            failures: Results = [NotReady(why) for _ in tickets]
            asyncio.get_running_loop().call_soon(done, failures, 0.0)
            return []
        frames = self._frames(tickets)
        _Ask(self._version, line, done).send(frames)
        return [number for number, _, _ in frames]

    def drop(self, numbers: Sequence[int]) -> None:
        """All callers of these frames are gone."""
        if self._line is not None:
            self._line.drop(numbers)

    def _frames(self, tickets: list[Ticket]) -> list[tuple[int, list[Ticket], bytearray | CallFailure]]:
        number = next(self._ids)
        try:
            columns = self._version.check.columns([row for ticket in tickets for row in ticket.rows])
        except Exception as bug:  # the edge to a caller's rows, as with a run in a thread
            return [(number, tickets, ModelFailed(f"the rows could not be sent: {type(bug).__name__}"))]
        counts = [len(ticket.rows) for ticket in tickets]
        deadlines_ns = [ticket.deadline_ns for ticket in tickets]
        data = frame(Run(number, counts, deadlines_ns, packed(columns, self._version.schema)))
        if len(data) <= self._max_frame_bytes:
            return [(number, tickets, data)]
        if len(tickets) > 1:
            half = len(tickets) // 2
            return [*self._frames(tickets[:half]), *self._frames(tickets[half:])]
        limit = f"at most {self._max_frame_bytes} bytes go to a native model at once: send fewer rows a request"
        return [(number, tickets, TooLarge(f"the rows take {len(data)} bytes; {limit}"))]


class _Ask:
    """One run that is away, in one frame or several; `done` is called when all are back."""

    def __init__(self, version: Version, line: _Line, done: Callable[[Results, float], None]) -> None:
        self._version = version
        self._line = line
        self._done = done
        self._results: list[Results] = []
        self._missing = 0
        self._run_ms = 0.0

    def send(self, frames: Sequence[tuple[int, list[Ticket], bytearray | CallFailure]]) -> None:
        self._missing = len(frames)
        self._results = [[] for _ in frames]
        loop = asyncio.get_running_loop()
        for place, (number, tickets, data) in enumerate(frames):
            if isinstance(data, CallFailure):
                failures: Results = [data for _ in tickets]
                loop.call_soon(self._settle, place, failures)
            else:
                self._line.ask(number, data, self._settler(place, tickets))

    def _settler(self, place: int, tickets: list[Ticket]) -> _Settle:
        return lambda ran: self._settle(place, self._results_of(ran, tickets))

    def _settle(self, place: int, results: Results) -> None:
        self._results[place] = results
        self._missing -= 1
        if not self._missing:
            self._done([result for part in self._results for result in part], self._run_ms)

    def _results_of(self, ran: Ran | None, tickets: list[Ticket]) -> Results:
        if ran is None:
            name = self._version.name
            return [NotReady(f"the process that computes {name!r} ended before it had answered") for _ in tickets]
        self._run_ms += ran.run_ms
        failed: dict[int, CallFailure] = {one.caller: failure_of(one) for one in ran.failed}
        rows = sum(len(ticket.rows) for place, ticket in enumerate(tickets) if place not in failed)
        try:
            outputs = unpacked_outputs(ran, self._version.bundle.outputs, rows) if rows else {}
            predictions = self._version.predictions(outputs, rows) if rows else []
        except ModelFailed as failure:
            return [failed.get(place, failure) for place in range(len(tickets))]
        except Exception as bug:  # the edge to another process: callers must never be left without an answer
            unread = ModelFailed.raised("the answer of the model's process cannot be read:", bug)
            return [failed.get(place, unread) for place in range(len(tickets))]
        results: Results = []
        start = 0
        for place, ticket in enumerate(tickets):
            if place in failed:
                results.append(failed[place])
            else:
                results.append(predictions[start : start + len(ticket.rows)])
                start += len(ticket.rows)
        return results


class _Line(asyncio.Protocol):
    """A connection to a model's process: what was asked by it, and who is to be told."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._frames = Frames(max_frame_bytes)
        self._transport: Any = None
        self._asked: dict[int, _Settle] = {}
        self._is_leaving = False
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.is_open = True

    def ask(self, number: int, data: bytearray, settle: _Settle) -> None:
        self._asked[number] = settle
        self._transport.write(data)

    def drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number in self._asked:
                self._transport.write(frame(Drop(number)))

    def leave(self) -> None:
        """Close once everything that was asked is answered."""
        self._is_leaving = True
        if not self._asked and self.is_open:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._frames.of(data):
                ran = answered(payload)
                settle = self._asked.pop(ran.id, None)
                if settle is not None:
                    settle(ran)
        except MalformedFrame:
            self._transport.abort()
            return
        if self._is_leaving:
            self.leave()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        asked, self._asked = self._asked, {}
        for settle in asked.values():
            settle(None)
