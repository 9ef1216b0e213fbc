"""Tick batching: what has arrived when the loop is free goes in one run, and nobody ever waits for company.

A model that is slower than `POOL_FROM_US` a row, or a run that would take longer than `LONG_RUN_US`, goes to a thread
instead, and the next batch is what has piled up meanwhile. Only rows of one version merge, checked before; a failing
merged run is repeated caller by caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from penstock.errors import CallFailure, DeadlineExceeded, ModelFailed
from penstock.runtime.flight import Wait

if TYPE_CHECKING:
    from penstock.schema.prediction import Prediction

POOL_FROM_US = 500.0
LONG_RUN_US = 20_000.0
_OVERDUE = "the deadline passed before the model was free; nothing was computed"

Row = Any
OnRun = Callable[[int, float], None]
"""Called after each run with its rows and its milliseconds."""

Score = Callable[[list[Row]], "list[Prediction]"]


class Scored:
    """What a caller gets back from a run: its own predictions, and what the run took."""

    __slots__ = ("batch_rows", "predictions", "queue_ms", "run_ms")

    def __init__(self, predictions: list[Prediction], *, queue_ms: float, run_ms: float, batch_rows: int) -> None:
        self.predictions = predictions
        self.queue_ms = queue_ms
        self.run_ms = run_ms
        self.batch_rows = batch_rows


class Ticket(Wait[Scored]):
    """One caller's rows in the queue. `deadline_ns` is on `time.monotonic_ns`'s clock; 0 is none."""

    __slots__ = ("deadline_ns", "queued_ns", "rows")

    def __init__(self, rows: list[Row], deadline_ns: int, queued_ns: int) -> None:
        super().__init__()
        self.rows = rows
        self.deadline_ns = deadline_ns
        self.queued_ns = queued_ns


class Batcher:
    """The queue in front of one loaded version. Used on one event loop; not thread-safe."""

    def __init__(
        self, score: Score, *, cost_us: float = 0.0, pool: Executor | None = None, on_run: OnRun | None = None
    ) -> None:
        """`score` answers a list of checked rows, one prediction a row, in about `cost_us` each.

        Runs that would hold the loop for too long go to a thread of `pool`; without one they all run on the loop.
        """
        self._score = score
        self._cost_us = cost_us
        self._pool = pool
        self._on_run = on_run
        self._queue: list[Ticket] = []
        self._is_busy = False  # a run is scheduled, or under way in the pool
        self._is_away = False  # a run is under way in the pool

    def submit(self, rows: list[Row], deadline_ns: int = 0) -> Ticket:
        """Queue `rows` for the next run; await the ticket for `Scored`.

        Raises (when awaited) DeadlineExceeded if the deadline passed before the run began, and ModelFailed.
        """
        ticket = Ticket(rows, deadline_ns, time.monotonic_ns())
        self._queue.append(ticket)
        if not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._next)
        elif self._is_away and deadline_ns:
            # The run that is under way may take longer than this caller can wait.
            left_s = max(0.0, (deadline_ns - ticket.queued_ns) / 1e9)
            asyncio.get_running_loop().call_later(left_s, self._give_up, ticket)
        return ticket

    def _give_up(self, ticket: Ticket) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)
            ticket.fail(DeadlineExceeded(_OVERDUE))

    def _next(self) -> None:
        tickets, self._queue = self._queue, []
        began_ns = time.monotonic_ns()
        tickets = [ticket for ticket in tickets if not _is_overdue(ticket, began_ns)]
        if self._pool is None or not self._is_long(tickets):
            self._is_busy = False
            self._deliver(tickets, began_ns, _run(self._score, tickets))
        else:
            self._is_away = True
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._pool, _run, self._score, tickets)
            running.add_done_callback(lambda done: self._after(tickets, began_ns, done))

    def _is_long(self, tickets: list[Ticket]) -> bool:
        if self._cost_us >= POOL_FROM_US:
            return bool(tickets)
        return self._cost_us * sum([len(ticket.rows) for ticket in tickets]) > LONG_RUN_US

    def _after(self, tickets: list[Ticket], began_ns: int, done: asyncio.Future[list[Any]]) -> None:
        self._is_away = False
        self._deliver(tickets, began_ns, done.result())
        if self._queue:
            self._next()
        else:
            self._is_busy = False

    def _deliver(self, tickets: list[Ticket], began_ns: int, results: list[Any]) -> None:
        run_ms = (time.monotonic_ns() - began_ns) / 1e6
        batch_rows = sum([len(ticket.rows) for ticket in tickets])
        if tickets and self._on_run is not None:
            self._on_run(batch_rows, run_ms)
        for ticket, result in zip(tickets, results, strict=True):
            if isinstance(result, CallFailure):
                ticket.fail(result)
            else:
                queue_ms = (began_ns - ticket.queued_ns) / 1e6
                ticket.settle(Scored(result, queue_ms=queue_ms, run_ms=run_ms, batch_rows=batch_rows))


def _is_overdue(ticket: Ticket, now_ns: int) -> bool:
    if not ticket.deadline_ns or now_ns < ticket.deadline_ns:
        return False
    ticket.fail(DeadlineExceeded(_OVERDUE))
    return True


def _run(score: Score, tickets: list[Ticket]) -> list[Any]:
    """One result a ticket: its predictions, or its own failure. Never raises."""
    if len(tickets) < 2:
        return [_alone(score, ticket) for ticket in tickets]
    rows = [row for ticket in tickets for row in ticket.rows]
    try:
        predictions = score(rows)
    except Exception:  # the edge to a model's own code: each caller's rows get a run of their own
        return [_alone(score, ticket) for ticket in tickets]
    results, start = [], 0
    for ticket in tickets:
        stop = start + len(ticket.rows)
        results.append(predictions[start:stop])
        start = stop
    return results


def _alone(score: Score, ticket: Ticket) -> Any:
    try:
        return score(ticket.rows)
    except ModelFailed as failure:
        return failure
    except Exception as bug:  # the edge to a model's own code: a caller must never be left without an answer
        return ModelFailed(f"the model raised {type(bug).__name__}")
