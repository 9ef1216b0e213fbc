"""What the workers ought to serve, and which of them does: the supervisor's side of a swap.

What is new is loaded by one worker first. What kills the process that loads it then kills one worker, which comes back
with what was served before; and while it loads, the others answer at their full pace. A change that loads nothing, as a
rollback is, goes to all at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from penstock.errors import PenstockError
from penstock.routing import Wanted, read_wanted
from penstock.telemetry import Registry
from penstock.workers import channel
from penstock.workers.acceptor import Taker
from penstock.workers.channel import Applied, Ready, Standing, Swap
from penstock.workers.natives import Natives

_LOG = logging.getLogger("penstock")
_LOOK_S: Final = 0.005
_DEATHS: Final = 2
"""Of workers that load a version, from which on it is the version's fault, and not that somebody killed them."""


class Worker(Taker):
    """A worker process, as the supervisor sees it."""

    def __init__(self, number: int, process: subprocess.Popen[bytes], end: socket.socket) -> None:
        super().__init__(end)
        self.number = number
        self.process = process
        self.ready: Ready | None = None
        self.is_leaving = False
        self.fate: str | None = None  # once it is dead
        self.counted = Registry()
        # Where in its log `counted` ends; at first where that of the worker before did, whose rest it is to count.
        self.place: tuple[str, int, int] | None = None
        self.revision = self.turn = 0  # what it serves
        self.failures: dict[str, str] = {}

    def applied(self, told: Applied | Ready) -> None:
        """It serves the table of this revision, but for the failures."""
        self.revision, self.failures = max(self.revision, told.revision), told.failures
        if isinstance(told, Applied):
            self.turn = max(self.turn, told.turn)


class Standings:
    """What workers start with, what they are told to serve, and how they stand. Used on one event loop."""

    def __init__(
        self,
        home: Path,
        wanted: Wanted,
        natives: Natives,
        *,
        workers: Callable[[], Sequence[Worker]],
        tell: Callable[[Standing], None],
    ) -> None:
        """`tell` hears how the workers stand whenever that changes."""
        self.wanted = wanted
        """What a worker that starts now is to serve: it is known to load."""
        self.turn = 0
        """Of `wanted`."""
        self._home = home
        self._newest = wanted
        self._turns = 0
        self._natives = natives
        self._workers = workers
        self._tell = tell
        self._failures: dict[str, str] = {}  # of native processes, and of what killed workers
        self._told: Standing | None = None

    async def begin(self) -> dict[str, str]:
        """Have the native processes computed that are needed from the start; why not, where that fails."""
        self._failures = await self._natives.take_up(self.wanted)
        return self._failures

    async def take_up(self) -> None:
        """Read `routing.json` again, and have every worker serve it. A later call overtakes."""
        try:
            wanted = read_wanted(self._home)
            if wanted.revision <= self._newest.revision:
                return
            self._newest, self._failures = wanted, {}
            for worker in self._workers():
                worker.failures = {}
            for stage in stages(wanted, self.wanted):
                if not await self._is_taken_up(stage, wanted):
                    break
            else:
                if self._newest is wanted:  # else it would end what a later call is waiting for
                    self._natives.let_go(wanted)
        except PenstockError as error:
            _LOG.error("what ought to be served is not taken up: %s", error)
        self.look()

    def look(self, *, again: bool = False) -> None:
        """Something may have changed: tell it if so, or `again` to one who was not told before."""
        standing = self.standing()
        if again or standing != self._told:
            self._told = standing
            self._tell(standing)

    def standing(self) -> Standing:
        """How the workers stand that take calls, and what could not be loaded."""
        serving = [worker for worker in self._workers() if worker.ready and not worker.is_leaving]
        latest = [worker for worker in serving if worker.revision >= self._newest.revision]
        failures = {name: why for worker in latest for name, why in worker.failures.items()}
        revisions = {worker.number: worker.revision for worker in serving}
        return Standing(revisions, failures | self._failures, self._newest.revision)

    async def _is_taken_up(self, stage: Wanted, wanted: Wanted) -> bool:
        """Have every worker serve `stage`, which is of `wanted`: whether they do, and nothing newer is wanted."""
        failures = await self._natives.take_up(stage)
        if self._newest is not wanted:
            return False
        self._failures = failures
        self._turns += 1
        return (
            not failures and await self._is_proven(stage, self._turns) and await self._is_passed_on(stage, self._turns)
        )

    async def _is_proven(self, stage: Wanted, turn: int) -> bool:
        """Have one worker serve `stage` first, if there is anything to load: whether it did, all of it."""
        fresh = stage.table.digests().items() - self.wanted.table.digests().items()
        deaths = 0
        while fresh and self._turns == turn:
            worker = next((each for each in self._workers() if each.ready and not each.is_leaving), None)
            if worker is None:
                await asyncio.sleep(_LOOK_S)
                continue
            self._send(worker, stage, turn)
            while self._turns == turn and worker.fate is None and worker.turn < turn:
                await asyncio.sleep(_LOOK_S)
            if worker.turn >= turn:  # what it could not load before speaks against nothing that is new
                return not {f"{name}/{number}" for (name, number), _ in fresh} & worker.failures.keys()
            deaths += worker.fate is not None and not worker.is_leaving
            if deaths == _DEATHS:
                why = f"the process that loaded it {worker.fate}"
                self._failures |= {f"{name}/{number}": why for (name, number), _ in fresh}
                return False
        return self._turns == turn

    async def _is_passed_on(self, stage: Wanted, turn: int) -> bool:
        """Have all workers serve `stage`, those that start as well."""
        self.wanted, self.turn = stage, turn
        for worker in self._workers():
            self._send(worker, stage, turn)
        while self._turns == turn and any(
            (worker.turn < turn or worker.ready is None) and not worker.is_leaving for worker in self._workers()
        ):
            await asyncio.sleep(_LOOK_S)
        return self._turns == turn

    def _send(self, worker: Worker, stage: Wanted, turn: int) -> None:
        if worker.turn < turn and not channel.send(worker.end, Swap(stage, self._natives.loaded(), turn)):
            _LOG.error("worker %d cannot be told of revision %d: ending it", worker.number, stage.revision)
            worker.process.kill()  # its channel is full: the next one starts with what is wanted


def stages(wanted: Wanted, now: Wanted) -> list[Wanted]:
    """The way from `now` to `wanted`: first what calls are answered by, then what is only kept and has to be loaded, so
    that a rollback to what is loaded waits for no load. Pure.
    """
    there = now.table.digests().items()
    models = {}
    for name, routes in wanted.table.models.items():
        first = {
            number: digest
            for number, digest in routes.versions.items()
            if number in routes.named or ((name, number), digest) in there
        }
        models[name] = msgspec.structs.replace(routes, versions=first)
    table = msgspec.structs.replace(wanted.table, models=models)
    first_of_all = msgspec.structs.replace(wanted, table=table)
    return [wanted] if table == wanted.table else [first_of_all, wanted]
