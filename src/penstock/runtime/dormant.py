"""A version that is not loaded: rows are read and answers described without it, and its first call loads it.

Behind the batcher as any other: what loads it is a run that is away from the loop. So its calls wait in a bounded
queue, up to their deadlines, while all other versions answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from penstock.errors import ModelUnavailable
from penstock.runtime.away import InPool, Results, Ticket
from penstock.runtime.breaker import Breaker
from penstock.runtime.model import Model
from penstock.runtime.remote import RemoteModel
from penstock.runtime.version import Cost, Version
from penstock.schema.prediction import Prediction

Load: TypeAlias = Callable[[str, int], Awaitable[Version]]
"""Loads and proves the version of that model and number, off the loop. Raises PenstockError."""


class Dormant(Version):
    """One version of a model that is not loaded."""

    @classmethod
    def of(cls, version: Version) -> Dormant:
        """What is left of a loaded version when it is let go."""
        return cls(version.bundle, version=version.version, check=version.check, cost=Cost())


class Waking:
    """An `Away` that loads a dormant version, and then runs by what was loaded. Used on one event loop.

    A load that fails opens `breaker`: until its rest is over nobody tries again.
    """

    def __init__(self, version: Dormant, wake: Callable[[], Awaitable[Version]], breaker: Breaker) -> None:
        self._version = version
        self._wake = wake
        self._breaker = breaker
        self._awake: Version | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, tickets: list[Ticket], done: Callable[[Results, float], None]) -> None:
        """As `Away`: once it is loaded. Failed loads are ModelUnavailable."""
        task = asyncio.get_running_loop().create_task(self._run(tickets, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drop(self) -> None:
        """As `Away`; it is loaded all the same, for whoever asks next."""

    async def _run(self, tickets: list[Ticket], done: Callable[[Results, float], None]) -> None:
        try:
            if self._awake is None and self._breaker.state != "open":
                self._awake = await self._wake()
        except Exception:  # the edge to whatever loads it, which tells why; its callers must not be left waiting
            for ticket in tickets:
                self._breaker.fail(ticket)
        model = self._awake
        if isinstance(model, RemoteModel):
            model.runs().run(tickets, done)
        elif isinstance(model, Model):
            InPool(lambda rows: self._score(model, rows), None).run(tickets, done)
        else:
            done([self._unavailable() for _ in tickets], 0.0)

    def _score(self, model: Model, rows: Sequence[Any]) -> list[Prediction]:
        return model.predictions(model.run(self._version.check.columns(rows)), len(rows))

    def _unavailable(self) -> ModelUnavailable:
        wait_s = self._breaker.retry_after_s()
        name, number = self._version.name, self._version.version
        return ModelUnavailable(f"version {number} of {name!r} could not be loaded: try again in {wait_s} s", wait_s)
