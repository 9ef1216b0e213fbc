"""The batcher: what arrives in a tick runs together, and every caller gets exactly its own rows back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import CallerGone, CallFailure, DeadlineExceeded, ModelFailed, Overloaded
from penstock.runtime import Batcher, InPool, Results, Ticket, Timing
from penstock.schema.prediction import Prediction


def doubled(rows: list[int]) -> list[Prediction]:
    return [Prediction(value=2.0 * row) for row in rows]


class Calls:
    """A score function that remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, rows: list[int]) -> list[Prediction]:
        self.sizes.append(len(rows))
        return doubled(rows)


class Asking(Ticket):
    """A caller's rows; `told` gets its values and the rows of its run, or its failure."""

    def __init__(self, rows: list[int], deadline_ns: int, told: Callable[[Any], None]) -> None:
        self.rows = rows
        self.deadline_ns = deadline_ns
        self.told = told


def land(tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
    for ticket, result in zip(tickets, results, strict=True):
        assert isinstance(ticket, Asking)
        if isinstance(result, CallFailure):
            ticket.told(result)
        else:
            assert timing is not None
            assert timing.began_ns >= ticket.queued_ns
            ticket.told(([prediction.value for prediction in result], timing.rows))


async def ask(batcher: Batcher, callers: list[list[int]], deadline_ns: int = 0) -> list[Any]:
    """Submit all callers' rows in one tick; what each of them got: values, or its failure."""
    loop = asyncio.get_running_loop()
    landed = [loop.create_future() for _ in callers]
    for rows, future in zip(callers, landed, strict=True):
        batcher.submit(Asking(rows, deadline_ns, future.set_result))
    return list(await asyncio.gather(*landed))


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=1, max_size=5), min_size=1, max_size=20))
def test_every_caller_gets_the_answers_of_its_own_rows(callers: list[list[int]]) -> None:
    """Split and join lose nothing, mix nothing, and run once for the whole tick."""
    calls = Calls()
    answers = asyncio.run(ask(Batcher(calls, land), callers))
    total = sum(len(rows) for rows in callers)
    assert [([2.0 * row for row in rows], total) for rows in callers] == answers
    assert [total] == calls.sizes


def test_one_poison_row_fails_its_caller_alone() -> None:
    """When the merged run raises, each caller's rows run alone."""

    def score(rows: list[int]) -> list[Prediction]:
        if 13 in rows:
            raise ModelFailed("thirteen")
        return doubled(rows)

    good, bad, other = asyncio.run(ask(Batcher(score, land), [[1, 2], [13], [3]]))
    assert ([2.0, 4.0], 4) == good
    assert "thirteen" == str(bad)
    assert ([6.0], 4) == other


def test_an_exception_of_the_models_own_code_becomes_a_model_failure() -> None:
    """Whatever a model raises, its caller is answered."""

    def score(rows: list[int]) -> list[Prediction]:
        raise ZeroDivisionError

    (failure,) = asyncio.run(ask(Batcher(score, land), [[1]]))
    assert isinstance(failure, ModelFailed)
    assert "the model raised ZeroDivisionError" == str(failure)


def test_overdue_rows_are_not_computed() -> None:
    """A deadline that has passed before the run begins costs no run."""
    calls = Calls()
    (failure,) = asyncio.run(ask(Batcher(calls, land), [[1]], deadline_ns=time.monotonic_ns()))
    assert isinstance(failure, DeadlineExceeded)
    assert [] == calls.sizes


def test_a_slow_model_runs_in_its_pool_and_takes_what_has_piled_up() -> None:
    """The loop stays free while a pool runs, and the next batch is everything that came meanwhile."""
    gate = threading.Event()
    calls = Calls()

    def score(rows: list[int]) -> list[Prediction]:
        gate.wait(10)
        return calls(rows)

    async def story(pool: ThreadPoolExecutor) -> list[Any]:
        batcher = Batcher(score, land, cost_us=600.0, away=InPool(score, pool))
        first = asyncio.ensure_future(ask(batcher, [[1]]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        later = [asyncio.ensure_future(ask(batcher, [[row]])) for row in (2, 3)]
        await asyncio.sleep(0)
        gate.set()
        return [await first, *[await one for one in later]]

    with ThreadPoolExecutor(1) as pool:
        answers = asyncio.run(story(pool))
    assert [[([2.0], 1)], [([4.0], 2)], [([6.0], 2)]] == answers
    assert [1, 2] == calls.sizes


def test_a_deadline_passes_while_the_pool_is_busy() -> None:
    """A caller whose deadline passes during a long run of others is told then, not when that run is over."""
    begun, go_on = threading.Event(), threading.Event()

    def score(rows: list[int]) -> list[Prediction]:
        begun.set()
        go_on.wait(5)
        return doubled(rows)

    async def scene() -> tuple[list[Any], bool, list[Any]]:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(score, land, cost_us=600.0, away=InPool(score, pool))
            first = asyncio.ensure_future(ask(batcher, [[1]]))
            while not begun.is_set():
                await asyncio.sleep(0)
            late = await ask(batcher, [[2]], time.monotonic_ns() + 10_000_000)
            was_busy = not first.done()
            go_on.set()
            return late, was_busy, await first

    late, was_busy, first = asyncio.run(scene())
    assert [DeadlineExceeded] == [type(failure) for failure in late]
    assert was_busy
    assert [([2.0], 1)] == first


def test_a_deadline_passes_while_its_own_run_is_away() -> None:
    """A caller is told at its deadline, though its rows are being computed; the others of its run get their answers."""
    go_on = threading.Event()

    def score(rows: list[int]) -> list[Prediction]:
        go_on.wait(5)
        return doubled(rows)

    async def scene() -> tuple[list[Any], list[Any]]:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(score, land, cost_us=600.0, away=InPool(score, pool))
            patient = asyncio.ensure_future(ask(batcher, [[1]]))
            hasty = await ask(batcher, [[2]], time.monotonic_ns() + 10_000_000)
            go_on.set()
            return hasty, await patient

    hasty, patient = asyncio.run(scene())
    assert [DeadlineExceeded] == [type(failure) for failure in hasty]
    assert [([2.0], 2)] == patient


def test_a_run_that_nobody_waits_for_is_dropped() -> None:
    """Once all callers of a run have been told of their deadlines, what computes it hears that it is in vain."""
    told: list[str] = []

    class Far:
        def run(self, tickets: list[Ticket], done: object) -> None:
            told.append(f"run {len(tickets)}")

        def drop(self) -> None:
            told.append("drop")

    now_ns = time.monotonic_ns()
    failures = asyncio.run(ask(Batcher(None, land, away=Far()), [[1], [2]], now_ns + 10_000_000))
    assert [DeadlineExceeded, DeadlineExceeded] == [type(failure) for failure in failures]
    assert ["run 2", "drop"] == told


def test_a_long_run_of_a_fast_model_leaves_the_loop_free() -> None:
    """What would hold the loop for more than a few milliseconds runs in the pool; a short run does not."""
    threads: list[str] = []

    def score(rows: list[int]) -> list[Prediction]:
        threads.append(threading.current_thread().name)
        return doubled(rows)

    async def story(pool: ThreadPoolExecutor) -> list[Any]:
        batcher = Batcher(score, land, cost_us=100.0, away=InPool(score, pool))
        return [*await ask(batcher, [[1]]), *await ask(batcher, [list(range(1000))])]

    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        short, long = asyncio.run(story(pool))
    assert ["MainThread", "pool_0"] == threads
    assert ([2.0], [2.0 * row for row in range(1000)]) == (short[0], long[0])


def test_a_short_run_starts_no_timer() -> None:
    """On the hot path nothing is left behind on the loop: a timer per request would outlive it by its deadline."""
    timers: list[object] = []

    async def story(pool: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later = lambda *given: timers.append(given)  # type: ignore[assignment, method-assign, return-value]
        deadline_ns = time.monotonic_ns() + 30_000_000_000
        await ask(Batcher(doubled, land, cost_us=1.0, away=InPool(doubled, pool)), [[1], [2], [3]], deadline_ns)

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(story(pool))
    assert [] == timers


class Queue:
    """A batcher whose only run waits at a gate, so that what is behind it stays in the queue."""

    def __init__(self, pool: ThreadPoolExecutor, most_rows: int = 10_000) -> None:
        self.gate = threading.Event()
        self.calls = Calls()
        self.batcher = Batcher(self.score, land, cost_us=600.0, away=InPool(self.score, pool), most_rows=most_rows)
        self.told: dict[int, Any] = {}
        self.tickets: dict[int, Any] = {}

    def score(self, rows: list[int]) -> list[Prediction]:
        self.gate.wait(10)
        return self.calls(rows)

    def ask(self, caller: int, rows: int = 1) -> None:
        def tell(outcome: Any) -> None:
            self.told[caller] = type(outcome) if isinstance(outcome, CallFailure) else outcome[0]

        self.tickets[caller] = ticket = Asking([caller] * rows, 0, tell)
        try:
            self.batcher.submit(ticket)
        except Overloaded as failure:
            tell(failure)

    async def finish(self) -> None:
        self.gate.set()
        while self.batcher.rows:
            await asyncio.sleep(0)


def test_a_full_queue_refuses_and_counts_what_runs() -> None:
    """Rows that wait and rows that are being computed count; a refusal is at once, and room comes back."""

    async def story(pool: ThreadPoolExecutor) -> tuple[dict[int, Any], int]:
        queue = Queue(pool, most_rows=4)
        queue.ask(1, rows=9)  # alone, so it may be more than fits
        await asyncio.sleep(0)
        queue.ask(2)
        assert Overloaded is queue.told[2]
        await queue.finish()
        for caller in (3, 4, 5):
            queue.ask(caller, rows=2)
        assert Overloaded is queue.told[5]
        await queue.finish()
        return queue.told, queue.batcher.rows

    with ThreadPoolExecutor(1) as pool:
        told, rows = asyncio.run(story(pool))
    assert ([2.0] * 9, [6.0] * 2, [8.0] * 2, 0) == (told[1], told[3], told[4], rows)


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=200))
def test_rows_of_callers_who_hang_up_do_not_run(callers: list[tuple[int, bool]]) -> None:
    """A caller who is gone before its run begins costs nothing and frees its room; all others get their answers."""

    async def story(pool: ThreadPoolExecutor) -> tuple[Queue, list[int]]:
        queue = Queue(pool)
        queue.ask(-1)
        await asyncio.sleep(0)
        for number, (rows, _) in enumerate(callers):
            queue.ask(number, rows)
        for number, (_, hangs_up) in enumerate(callers):
            if hangs_up:
                queue.batcher.drop(queue.tickets[number])
                queue.batcher.drop(queue.tickets[number])
        waiting = queue.batcher.rows
        await queue.finish()
        return queue, [waiting, queue.batcher.rows]

    with ThreadPoolExecutor(1) as pool:
        queue, counted = asyncio.run(story(pool))
    stay = sum(rows for rows, hangs_up in callers if not hangs_up)
    assert [1 + stay, 0] == counted
    assert [1, stay] == (queue.calls.sizes if stay else [*queue.calls.sizes, 0])
    expected = {number: CallerGone if gone else [2.0 * number] * rows for number, (rows, gone) in enumerate(callers)}
    assert {-1: [-2.0], **expected} == queue.told


def test_a_caller_who_hangs_up_during_its_run_is_told_at_once() -> None:
    """Its call ends then; what the run brings for it later is dropped, and its neighbours get theirs."""

    async def story(pool: ThreadPoolExecutor) -> tuple[Any, dict[int, Any], int]:
        queue = Queue(pool)
        for caller in (1, 2):
            queue.ask(caller)
        await asyncio.sleep(0)
        queue.batcher.drop(queue.tickets[1])
        at_once = queue.told.get(1)
        await queue.finish()
        queue.batcher.drop(queue.tickets[2])
        return at_once, queue.told, queue.batcher.rows

    with ThreadPoolExecutor(1) as pool:
        at_once, told, rows = asyncio.run(story(pool))
    assert (CallerGone, {1: CallerGone, 2: [4.0]}, 0) == (at_once, told, rows)
