"""A call on its way along the hot path, without an asyncio task of its own.

The hot path (`server/predict.py`) is one coroutine that awaits nothing but a `Wait`. A `Flight` starts it, and whoever
settles the `Wait` (the batcher, the audit log) carries it on, all in the same tick of the loop. One task and one future
a request would cost more than the checks, the record and the reply together.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Wait(Generic[T]):
    """A result that is not there yet: awaited once, by a `Flight`; settled once, later, on the loop's thread."""

    __slots__ = ("_error", "_resume", "_value")

    def __init__(self) -> None:
        self._resume: Callable[[], None] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[Wait[Any], None, T]:
        yield self
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # settled, or the flight would not have been resumed

    def settle(self, value: T) -> None:
        """Carry the waiting flight on with `value`."""
        self._value = value
        if self._resume is not None:
            self._resume()

    def fail(self, error: BaseException) -> None:
        """Carry the waiting flight on by raising `error` in it."""
        self._error = error
        if self._resume is not None:
            self._resume()

    def on_ready(self, resume: Callable[[], None]) -> None:
        """Call `resume` once this is settled."""
        self._resume = resume


class Flight(Generic[R]):
    """Runs a coroutine that awaits only `Wait`s; `done` gets what it returns.

    The coroutine must not raise: the hot path turns every failure into a reply.
    """

    __slots__ = ("_coroutine", "_done")

    def __init__(self, coroutine: Coroutine[Wait[Any], None, R], done: Callable[[R], None]) -> None:
        self._coroutine = coroutine
        self._done = done

    def go(self) -> None:
        """Run up to the next `Wait`, or to the end."""
        try:
            wait = self._coroutine.send(None)
        except StopIteration as end:
            self._done(end.value)
        else:
            wait.on_ready(self.go)
