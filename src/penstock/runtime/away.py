"""Where a run goes that would hold the event loop: a thread of this process, or (`remote.py`) another process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol, TypeAlias

import msgspec

from penstock.errors import CallFailure, ModelFailed
from penstock.schema.prediction import Prediction

Row: TypeAlias = Any
Score: TypeAlias = Callable[[Sequence[Row]], list[Prediction]]
Results: TypeAlias = list[list[Prediction] | CallFailure]
"""One result a ticket, in their order: its predictions, or its own failure."""


class Timing(msgspec.Struct, frozen=True):
    """When a run began, on `time.monotonic_ns`'s clock, its milliseconds, and the rows of all callers in it."""

    began_ns: int
    run_ms: float
    rows: int


class Took(msgspec.Struct, frozen=True, gc=False):
    """What a run took for one caller: milliseconds in the queue and of the run, and the rows of all callers in it."""

    queue_ms: float
    run_ms: float
    batch_rows: int


class Ticket:
    """One caller's rows in the queue; a call of the server is one. Times are on `time.monotonic_ns`'s clock.

    A `deadline_ns` of 0 is none. `is_over`: its caller has been told, or is gone: what a run brings for it later is
    dropped.
    """

    rows: Sequence[Row] = ()
    deadline_ns = 0
    queued_ns = 0
    is_over = False


class Away(Protocol):
    """Runs tickets while the loop goes on. Used on the loop, one run at a time."""

    def run(self, tickets: list[Ticket], done: Callable[[Results, float], None]) -> None:
        """Compute the tickets' rows together, then call `done` once, on the loop, later: results and milliseconds."""
        ...

    def drop(self) -> None:
        """All callers of the run under way are gone: what of it has not begun need not be computed."""
        ...


class InPool:
    """Runs in a thread of `pool`, or of the event loop's own."""

    def __init__(self, score: Score, pool: Executor | None) -> None:
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
        return ModelFailed.raised("the model raised", bug)
