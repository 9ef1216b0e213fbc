"""Tick batching: what has arrived when the loop is free goes in one run, and nobody ever waits for company.

A model that is slower than `AWAY_FROM_US` a row, or a run that would take longer than `LONG_RUN_US`, goes away from the
loop instead (`away.py`), and the next batch is what has piled up meanwhile. Only rows of one version merge, checked
before; a failing merged run is repeated caller by caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from penstock.errors import CallerGone, CallFailure, DeadlineExceeded, Overloaded
from penstock.runtime.away import Away, Results, Score, Ticket, Timing, run_together

AWAY_FROM_US = 500.0
LONG_RUN_US = 20_000.0
_OVERDUE = "the deadline passed before the model was free; nothing was computed"
_TOO_SLOW = "the deadline passed before the model had answered"
_GONE = "the caller hung up before the answer was there"
_FULL = "the model has as many rows waiting as it may (limits.queue_rows); nothing was computed: try again"
_MANY_DROPPED = 64

OnRun = Callable[[int, float], None]
"""Called after each run with its rows and its milliseconds."""

Land = Callable[[Sequence[Ticket], Results, Timing | None], None]
"""Called with tickets and their results; without a timing no run was made for them."""


class Batcher:
    """The queue in front of one loaded version. Used on one event loop; not thread-safe."""

    def __init__(
        self,
        score: Score | None,
        land: Land,
        *,
        cost_us: float = 0.0,
        away: Away | None = None,
        on_run: OnRun | None = None,
        most_rows: int = 10_000,
    ) -> None:
        """`score` answers a list of checked rows, one prediction a row, in about `cost_us` each; `land` gets them.

        Runs that would hold the loop for too long go `away`; without it they all run on the loop, and without a
        `score` none does. `most_rows` may wait or be computed at a time.
        """
        self.most_rows = most_rows
        self.rows = 0
        """Rows that wait or are being computed."""
        self.ran_ns = time.monotonic_ns()
        """When the last run began; before the first, when this was made."""
        self._score = score
        self._land = land
        self._cost_us = cost_us
        self._away = away
        self._on_run = on_run
        self._queue: list[Ticket] = []
        self._dropped: list[Ticket] = []  # in the queue still, their rows no longer counted
        self._is_busy = False  # a run is scheduled, or under way
        self._under_way: list[Ticket] = []  # away
        self._alarm: asyncio.TimerHandle | None = None  # at the first deadline, while a run is away
        self._alarm_ns = 0

    def submit(self, ticket: Ticket) -> None:
        """Queue the rows of `ticket` for the next run; its result lands later, never within this call.

        Raises Overloaded when that would be more than `most_rows` (but one caller's rows may always wait alone). What
        lands is the predictions, or DeadlineExceeded, CallerGone, ModelFailed.
        """
        count = self.rows + len(ticket.rows)
        if count > self.most_rows and self.rows:
            raise Overloaded(_FULL)
        self.rows = count
        ticket.is_over = False
        ticket.queued_ns = time.monotonic_ns()
        self._queue.append(ticket)
        if not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._next)
        elif self._under_way and ticket.deadline_ns:
            self._wake_by(ticket.deadline_ns)

    def require_room(self) -> None:
        """Raise Overloaded when no row more may wait: a refusal that costs nothing, before rows are read."""
        if self.rows >= self.most_rows:
            raise Overloaded(_FULL)

    def drop(self, ticket: Ticket) -> None:
        """Its caller hung up: CallerGone lands for it at once, its rows do not run if they have not begun to."""
        if ticket.is_over:
            return
        if any(ticket is other for other in self._under_way):
            self._end(ticket, CallerGone(_GONE))
            self._drop_run_if_all_gone()
        else:
            self.rows -= len(ticket.rows)
            self._dropped.append(ticket)
            self._end(ticket, CallerGone(_GONE))
            if len(self._dropped) > max(_MANY_DROPPED, len(self._queue) // 2):
                self._queue = self._still_due(self._queue, 0)

    def _next(self) -> None:
        queued, self._queue = self._queue, []
        began_ns = time.monotonic_ns()
        tickets = self._still_due(queued, began_ns)
        if self._away is not None and tickets and (self._score is None or self._is_long(tickets)):
            self._send_away(self._away, tickets)
        else:
            self._is_busy = False
            if self._score is not None:
                results = run_together(self._score, tickets)
                self._deliver(tickets, results, (time.monotonic_ns() - began_ns) / 1e6)

    def _is_long(self, tickets: list[Ticket]) -> bool:
        if self._cost_us >= AWAY_FROM_US:
            return True
        return self._cost_us * sum([len(ticket.rows) for ticket in tickets]) > LONG_RUN_US

    def _send_away(self, away: Away, tickets: list[Ticket]) -> None:
        self._under_way = tickets
        for ticket in tickets:
            if ticket.deadline_ns:
                self._wake_by(ticket.deadline_ns)
        away.run(tickets, self._back)

    def _back(self, results: Results, run_ms: float) -> None:
        tickets, self._under_way = self._under_way, []
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._deliver(tickets, results, run_ms)
        if self._queue:
            self._next()
        else:
            self._is_busy = False

    def _wake_by(self, deadline_ns: int) -> None:
        """Look for callers whose deadline has passed at `deadline_ns`, or earlier."""
        if self._alarm is not None:
            if self._alarm_ns <= deadline_ns:
                return
            self._alarm.cancel()
        left_s = max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9)
        self._alarm_ns = deadline_ns
        self._alarm = asyncio.get_running_loop().call_later(left_s, self._tell_overdue)

    def _tell_overdue(self) -> None:
        self._alarm = None
        # The loop's clock is coarser than the deadlines are.
        now_ns = max(time.monotonic_ns(), self._alarm_ns)
        self._queue = self._still_due(self._queue, now_ns)
        for ticket in self._under_way:
            self._is_overdue(ticket, now_ns, _TOO_SLOW)
        left = [ticket for ticket in self._under_way if not ticket.is_over]
        self._drop_run_if_all_gone()
        deadlines = [ticket.deadline_ns for ticket in (*left, *self._queue) if ticket.deadline_ns]
        if deadlines and self._under_way:
            self._wake_by(min(deadlines))

    def _still_due(self, queued: list[Ticket], now_ns: int) -> list[Ticket]:
        """Those of the queue whose callers still wait; the others' rows are counted no longer."""
        due = [ticket for ticket in queued if not self._is_overdue(ticket, now_ns, _OVERDUE)]
        if len(due) < len(queued):
            self.rows -= sum([len(ticket.rows) for ticket in queued if ticket.is_over])
            self.rows += sum([len(ticket.rows) for ticket in self._dropped])  # counted out when they were dropped
            self._dropped = []
        return due

    def _drop_run_if_all_gone(self) -> None:
        if self._away is not None and all(ticket.is_over for ticket in self._under_way):
            self._away.drop()

    def _deliver(self, tickets: list[Ticket], results: Results, run_ms: float) -> None:
        batch_rows = sum([len(ticket.rows) for ticket in tickets])
        self.rows -= batch_rows
        if tickets and self._on_run is not None:
            self._on_run(batch_rows, run_ms)
        began_ns = self.ran_ns = time.monotonic_ns() - int(run_ms * 1e6)
        timing = Timing(began_ns, run_ms, batch_rows)
        if any(ticket.is_over for ticket in tickets):
            pairs = [pair for pair in zip(tickets, results, strict=True) if not pair[0].is_over]
            tickets, results = [ticket for ticket, _ in pairs], [result for _, result in pairs]
        for ticket in tickets:
            ticket.is_over = True
        self._land(tickets, results, timing)

    def _is_overdue(self, ticket: Ticket, now_ns: int, why: str) -> bool:
        if ticket.is_over or not ticket.deadline_ns or now_ns < ticket.deadline_ns:
            return ticket.is_over
        self._end(ticket, DeadlineExceeded(why))
        return True

    def _end(self, ticket: Ticket, failure: CallFailure) -> None:
        ticket.is_over = True
        self._land([ticket], [failure], None)
