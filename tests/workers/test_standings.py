"""How a swap goes from the supervisor to its workers, which are played here: in turns, and past those that die."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.errors import SettingsError
from penstock.routing import CHAMPION, Routes, RoutingTable, Wanted, read_wanted, write_wanted
from penstock.settings import Settings
from penstock.workers import channel
from penstock.workers.channel import Applied, Ready, Standing, Swap
from penstock.workers.natives import Natives
from penstock.workers.standings import Standings, Worker, stages

WHY = "golden row 3: no"


def wanted(revision: int, bundle: Path | str, champion: int, *kept: int) -> Wanted:
    """One model, of which an alias names `champion`, and `kept` are loaded beside it."""
    numbers = sorted((champion, *kept))
    table = RoutingTable({"iris": Routes({number: f"digest {number}" for number in numbers}, {CHAMPION: champion})})
    return Wanted(revision, table, {"iris": {number: str(bundle) for number in numbers}})


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.002)


class Play:
    """A home at revision 1, and two workers that serve it; `told` is what a controller would hear."""

    def __init__(self, home: Path, bundle: Path, natives: Natives | None = None) -> None:
        self.home, self.bundle = home, bundle
        self.workers: list[Worker] = []
        self.ends: dict[int, socket.socket] = {}
        self.told: list[Standing] = []
        write_wanted(home, wanted(1, bundle, 1))
        natives = natives if natives is not None else Natives(Settings(), workers=list)
        self.standings = Standings(
            home, read_wanted(home), natives, workers=lambda: self.workers, tell=self.told.append
        )
        self.tasks: list[asyncio.Task[None]] = []
        self.come(0)
        self.come(1)

    def come(self, number: int) -> None:
        """A worker that serves what workers start with."""
        ours, theirs = channel.pair()
        worker = Worker(number, subprocess.Popen(["true"]), ours)
        worker.turn = self.standings.turn
        worker.ready = Ready([], "", 0, self.standings.wanted.revision)
        worker.applied(worker.ready)
        self.workers.append(worker)
        self.ends[number] = theirs

    def die(self, number: int) -> None:
        """It is killed, and its successor comes."""
        [worker] = [worker for worker in self.workers if worker.number == number]
        self.workers.remove(worker)
        self._close(worker)
        worker.fate = "was killed by SIGSEGV"
        self.come(number)

    def want(self, what: Wanted) -> None:
        """`routing.json` says `what` from now on."""
        write_wanted(self.home, what)
        self.tasks.append(asyncio.get_running_loop().create_task(self.standings.take_up()))

    def asked(self, number: int) -> list[Swap]:
        """What a worker has been told to serve since it was asked last."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while isinstance(swap := channel.received_by_worker(self.ends[number])[0], Swap):
                found.append(swap)
        return found

    async def asks(self, number: int) -> Swap:
        """The next thing that a worker is told to serve."""
        found: list[Swap] = []
        await until(lambda: found.extend(self.asked(number)) or found)
        [swap] = found
        return swap

    def apply(self, number: int, swap: Swap, **failures: str) -> None:
        """A worker says that it serves it."""
        [worker] = [worker for worker in self.workers if worker.number == number]
        told = {f"iris/{name.removeprefix('v')}": why for name, why in failures.items()}
        worker.applied(Applied(swap.wanted.revision, told, swap.turn))
        self.standings.look()

    async def end(self) -> None:
        """All that was begun has ended."""
        async with asyncio.timeout(30):
            await asyncio.gather(*self.tasks)
        for worker in self.workers:
            self._close(worker)

    def _close(self, worker: Worker) -> None:
        worker.end.close()
        self.ends[worker.number].close()
        worker.process.wait()


class SlowNatives(Natives):
    """Has what revision 3 needs only once it may; `let` are the revisions for which others were ended."""

    def __init__(self) -> None:
        super().__init__(Settings(), workers=list)
        self.may = asyncio.Event()
        self.let: list[int] = []

    async def take_up(self, wanted: Wanted) -> dict[str, str]:
        """As of the real ones, which wait for their processes."""
        if wanted.revision == 3:
            await self.may.wait()
        return {}

    def let_go(self, wanted: Wanted) -> None:
        """As of the real ones, which end what `wanted` does not need."""
        self.let.append(wanted.revision)


def test_what_is_overtaken_ends_nothing_that_is_waited_for(tmp_path: Path, bundles: dict[str, Path]) -> None:
    """A change that all workers serve while a later one waits for its native processes leaves these alone: ended by
    it, they would be waited for without end.
    """

    async def play() -> tuple[list[int], list[int]]:
        natives = SlowNatives()
        scene = Play(tmp_path, bundles["iris"], natives)
        scene.want(wanted(2, bundles["iris"], 2, 1))
        scene.apply(0, await scene.asks(0))
        last = await scene.asks(1)
        scene.want(wanted(3, bundles["iris"], 3, 2))
        await until(lambda: scene.standings.standing().revision == 3)
        scene.apply(1, last)
        await scene.tasks[0]
        before = list(natives.let)
        natives.may.set()
        scene.apply(0, await scene.asks(0))
        scene.apply(1, await scene.asks(1))
        await scene.end()
        return before, natives.let

    assert ([], [3]) == asyncio.run(play())


def test_what_is_new_is_loaded_by_one_worker_first(tmp_path: Path, bundles: dict[str, Path]) -> None:
    """The second worker is told once the first serves it; the controller hears of each."""

    async def play() -> tuple[list[Swap], list[dict[int, int]]]:
        scene = Play(tmp_path, bundles["iris"])
        scene.want(wanted(2, bundles["iris"], 2, 1))
        swap = await scene.asks(0)
        before = scene.asked(1)
        scene.apply(0, swap)
        scene.apply(1, await scene.asks(1))
        await scene.end()
        return before, [standing.revisions for standing in scene.told]

    assert ([], [{0: 2, 1: 1}, {0: 2, 1: 2}]) == asyncio.run(play())


def test_a_change_that_loads_nothing_goes_to_all_at_once(tmp_path: Path, bundles: dict[str, Path]) -> None:
    """A rollback waits for nobody, not even for what is loaded for a deploy that it overtakes."""

    async def play() -> list[int]:
        scene = Play(tmp_path, bundles["iris"])
        scene.want(wanted(2, bundles["iris"], 2, 1))
        await scene.asks(0)  # it loads, and does not come to an end
        scene.want(wanted(3, bundles["iris"], 1))
        swaps = [await scene.asks(0), await scene.asks(1)]
        for number, swap in enumerate(swaps):
            scene.apply(number, swap)
        await scene.end()
        return [swap.wanted.revision for swap in swaps]

    assert [3, 3] == asyncio.run(play())


def test_a_version_that_a_worker_cannot_load_goes_no_further(tmp_path: Path, bundles: dict[str, Path]) -> None:
    """The controller hears why; the others go on with what they serve, and so do workers that start."""

    async def play() -> tuple[Standing, list[Swap], int]:
        scene = Play(tmp_path, bundles["iris"])
        scene.want(wanted(2, bundles["iris"], 2, 1))
        scene.apply(0, await scene.asks(0), v2=WHY)
        await asyncio.gather(*scene.tasks)
        others = scene.asked(1)
        await scene.end()
        return scene.told[-1], others, scene.standings.wanted.revision

    standing, others, revision = asyncio.run(play())
    assert (Standing({0: 2, 1: 1}, {"iris/2": WHY}, 2), [], 1) == (standing, others, revision)


def test_a_version_that_kills_two_workers_is_to_blame(tmp_path: Path, bundles: dict[str, Path]) -> None:
    """One death may have been anybody's doing: another worker tries. After two the version is refused; and what follows
    is taken up as ever.
    """

    async def play() -> tuple[dict[str, str], list[int]]:
        scene = Play(tmp_path, bundles["iris"])
        scene.want(wanted(2, bundles["iris"], 2, 1))
        await scene.asks(0)
        scene.die(0)
        await scene.asks(1)
        scene.die(1)
        await until(lambda: scene.told and scene.told[-1].failures)
        failures = scene.told[-1].failures
        scene.want(wanted(3, bundles["iris"], 1))
        for number in (0, 1):
            scene.apply(number, await scene.asks(number))
        await scene.end()
        return failures, sorted(worker.revision for worker in scene.workers)

    why = {"iris/2": "the process that loaded it was killed by SIGSEGV"}
    assert (why, [3, 3]) == asyncio.run(play())


def test_a_worker_that_is_killed_while_it_loads(tmp_path: Path, bundles: dict[str, Path]) -> None:
    """Its successor begins with what was served before, and follows like the others."""

    async def play() -> list[int]:
        scene = Play(tmp_path, bundles["iris"])
        scene.want(wanted(2, bundles["iris"], 2, 1))
        await scene.asks(0)
        scene.die(0)
        begun = [worker.revision for worker in scene.workers if worker.number == 0]
        scene.apply(1, await scene.asks(1))
        scene.apply(0, await scene.asks(0))
        await scene.end()
        return [*begun, *(worker.revision for worker in scene.workers)]

    assert [1, 2, 2] == asyncio.run(play())


def test_what_is_only_kept_comes_last() -> None:
    """A rollback to what is loaded comes before the load of what is to be kept beside it from now on."""
    now, then = wanted(4, "x", 3, 2), wanted(5, "x", 2, 1)
    first, second = stages(then, now)
    assert ({2: "digest 2"}, then) == (first.table.models["iris"].versions, second)
    assert [wanted(5, "x", 2, 3)] == stages(wanted(5, "x", 2, 3), now)
    assert [wanted(5, "x", 4, 3)] == stages(wanted(5, "x", 4, 3), now)


def test_a_file_that_is_not_ours_changes_nothing(tmp_path: Path, bundles: dict[str, Path]) -> None:
    """A `routing.json` that cannot be read is left alone."""

    async def play() -> list[Swap]:
        scene = Play(tmp_path, bundles["iris"])
        (tmp_path / "routing.json").write_text("{}")
        with pytest.raises(SettingsError):
            read_wanted(tmp_path)
        await scene.standings.take_up()
        found = [*scene.asked(0), *scene.asked(1)]
        await scene.end()
        return found

    assert [] == asyncio.run(play())
