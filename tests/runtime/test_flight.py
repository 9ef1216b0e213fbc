"""The flight: a coroutine carried on by whoever settles what it waits for."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.runtime import Flight, Wait


def test_a_flight_runs_to_the_end_without_waiting() -> None:
    """A coroutine that awaits nothing is done at once."""
    done: list[str] = []

    async def path() -> str:
        return "landed"

    Flight(path(), done.append).go()
    assert ["landed"] == done


def test_a_flight_goes_on_when_its_wait_is_settled() -> None:
    """Each settled wait carries the coroutine to its next one, and the values arrive in order."""
    first: Wait[int] = Wait()
    second: Wait[int] = Wait()
    done: list[Any] = []

    async def path() -> tuple[int, int]:
        return await first, await second

    Flight(path(), done.append).go()
    first.settle(1)
    assert [] == done
    second.settle(2)
    assert [(1, 2)] == done


def test_a_failed_wait_raises_where_it_is_awaited() -> None:
    """The coroutine can turn a failure into its own result."""
    wait: Wait[int] = Wait()
    done: list[str] = []

    async def path() -> str:
        try:
            await wait
        except ValueError as error:
            return f"failed: {error}"
        return "went well"

    Flight(path(), done.append).go()
    wait.fail(ValueError("no"))
    assert ["failed: no"] == done


def test_a_wait_cannot_be_mistaken_for_an_asyncio_future() -> None:
    """Under asyncio a wait fails loudly instead of hanging."""
    import asyncio

    async def path() -> None:
        await Wait()

    with pytest.raises(RuntimeError, match="unexpected|got bad yield"):
        asyncio.run(path())
