"""Where a run goes that would hold the event loop: a thread of this process, or (`remote.py`) another process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol, TypeAlias

from penstock.errors import CallFailure, ModelFailed
from penstock.runtime.flight import Wait
from penstock.schema.prediction import Prediction

Row: TypeAlias = Any
Score: TypeAlias = Callable[[list[Row]], list[Prediction]]
Results: TypeAlias = list[list[Prediction] | CallFailure]
"""One result a ticket, in their order: its predictions, or its own failure."""


class Scored:
    """What a caller gets back from a run: its own predictions, and what the run took."""

    __slots__ = ("batch_rows", "predictions", "queue_ms", "run_ms")

    def __init__(self, predictions: list[Prediction], *, queue_ms: float, run_ms: float, batch_rows: int) -> None:
        self.predictions = predictions
        self.queue_ms = queue_ms
        self.run_ms = run_ms
        self.batch_rows = batch_rows


class Ticket(Wait[Scored]):
    """One caller's rows in the queue. `deadline_ns` is on `time.monotonic_ns`'s clock; 0 is none.

    `is_over`: its caller has been told, or is gone: what a run brings for it later is dropped.
    """

    __slots__ = ("deadline_ns", "is_over", "queued_ns", "rows")

    def __init__(self, rows: list[Row], deadline_ns: int, queued_ns: int) -> None:
        super().__init__()
        self.rows = rows
        self.deadline_ns = deadline_ns
        self.queued_ns = queued_ns
        self.is_over = False


class Away(Protocol):
    """Runs tickets while the loop goes on. Used on the loop, one run at a time."""

    def run(self, tickets: list[Ticket], done: Callable[[Results, float], None]) -> None:
        """Compute the tickets' rows together, then call `done` once, on the loop, later: results and milliseconds."""
        ...

    def drop(self) -> None:
        """All callers of the run under way are gone: what of it has not begun need not be computed."""
        ...


class InPool:
    """Runs in a thread of `pool`."""

    def __init__(self, score: Score, pool: Executor) -> None:
        self._score = score
        self._pool = pool

    def run(self, tickets: list[Ticket], done: Callable[[Results, float], None]) -> None:
        """As `Away`."""

        def timed() -> tuple[Results, float]:
            began_ns = time.monotonic_ns()
            results = run_together(self._score, tickets)
            return results, (time.monotonic_ns() - began_ns) / 1e6

        running = asyncio.get_running_loop().run_in_executor(self._pool, timed)
        running.add_done_callback(lambda future: done(*future.result()))

    def drop(self) -> None:
        """As `Away`; a thread cannot be stopped."""


def run_together(score: Score, tickets: Sequence[Ticket]) -> Results:
    """Run all tickets' rows at once; where that fails, each ticket's alone. Never raises."""
    if len(tickets) < 2:
        return [_alone(score, ticket) for ticket in tickets]
    rows = [row for ticket in tickets for row in ticket.rows]
    try:
        predictions = score(rows)
    except Exception:  # the edge to a model's own code: each caller's rows get a run of their own
        return [_alone(score, ticket) for ticket in tickets]
    results: Results = []
    start = 0
    for ticket in tickets:
        stop = start + len(ticket.rows)
        results.append(predictions[start:stop])
        start = stop
    return results


def _alone(score: Score, ticket: Ticket) -> list[Prediction] | CallFailure:
    try:
        return score(ticket.rows)
    except ModelFailed as failure:
        return failure
    except Exception as bug:  # the edge to a model's own code: a caller must never be left without an answer
        return ModelFailed(f"the model raised {type(bug).__name__}")
