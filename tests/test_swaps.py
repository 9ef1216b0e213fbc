"""What a process serves and how it comes to serve something else: as far as what is wanted can be loaded."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies

from broken import changed_byte
from penstock import loading, swaps
from penstock.assignment import Arm, Experiment, settled
from penstock.bundle.manifest import manifest_of
from penstock.loading import served_table
from penstock.routing import CHAMPION, Decision, ModelOptions, Routes, RoutingTable, Wanted
from penstock.runtime import Host, Version
from penstock.server.measures import Measures
from penstock.settings import Settings
from penstock.swaps import Swaps
from penstock.telemetry import Registry
from variants import variant

NUMBERS = strategies.integers(1, 5)
ALIASES = strategies.dictionaries(strategies.sampled_from([CHAMPION, "candidate", "blue"]), NUMBERS, min_size=1)
KEPT = strategies.sets(NUMBERS)


def table(aliases: dict[str, int], kept: set[int]) -> RoutingTable:
    numbers = sorted({*aliases.values(), *kept})
    return RoutingTable({"iris": Routes({number: f"digest {number}" for number in numbers}, aliases)})


@given(wanted=ALIASES, kept=KEPT, before=ALIASES, lacking=KEPT)
def test_as_far_as_it_goes(wanted: dict[str, int], kept: set[int], before: dict[str, int], lacking: set[int]) -> None:
    """Whatever cannot be loaded, a table names only what is there; what can be served is served; what cannot goes on as
    before, and a champion is found as long as there is anything that was one.
    """
    was = table(before, set())
    there = {("iris", number): f"digest {number}" for number in {*wanted.values(), *kept, *before.values()} - lacking}
    made = served_table(table(wanted, kept), there, was)
    routes = made.models.get("iris", Routes({}, {}))
    assert {("iris", number): digest for number, digest in routes.versions.items()}.items() <= there.items()
    assert set(routes.aliases.values()) <= set(routes.versions)
    for alias, number in wanted.items():
        if number not in lacking:
            assert number == routes.aliases[alias]
        elif before.get(alias) is not None and before[alias] not in lacking:
            assert before[alias] == routes.aliases[alias]
    if CHAMPION in wanted and kept - lacking - set(wanted.values()):
        assert CHAMPION in routes.aliases


def test_another_content_of_the_same_number() -> None:
    """A version whose digest differs is not the one that is wanted, nor what was served before."""
    assert {} == served_table(table({CHAMPION: 1}, set()), {("iris", 1): "other"}, RoutingTable({})).models


class Scene:
    """A host that serves version 1 of `iris`; `paths` of versions are by number."""

    def __init__(self, bundles: dict[str, Path], out: Path) -> None:
        self.paths = {number: variant(bundles["iris"], out, without=number) for number in (1, 2, 3)}
        self.registry = Registry()
        self.swaps = Swaps(self.wanted(1, 1), Settings(), Measures(self.registry))
        self.host = Host([], registry=self.registry, load=self.swaps.load)
        self.swaps.begin(self.host)

    def wanted(self, revision: int, champion: int, *kept: int, **options: object) -> Wanted:
        """Version `champion`, and `kept` beside it."""
        digests = {number: manifest_of(self.paths[number]).content_digest for number in sorted({champion, *kept})}
        routes = Routes(digests, {CHAMPION: champion}, ModelOptions(**options))  # type: ignore[arg-type]
        return Wanted(revision, RoutingTable({"iris": routes}), {"iris": {n: str(self.paths[n]) for n in digests}})

    @property
    def champion(self) -> int:
        """The version that answers."""
        return self.host.choose("iris", None, None).model.version

    def close(self) -> None:
        self.host.close()


@pytest.fixture
def scene(bundles: dict[str, Path], tmp_path: Path) -> Scene:
    return Scene(bundles, tmp_path)


def test_an_arm_that_is_nowhere_is_left_out_alone() -> None:
    """The experiment stays in the table; the version of an arm never becomes the champion in place of one."""
    experiment = settled(Experiment(id="fees", arms=(Arm(name="blue", version=2, weight=500),)))
    routes = Routes({1: "a", 2: "b"}, {CHAMPION: 1}, ModelOptions(), experiment)
    wanted = RoutingTable({"iris": routes})
    lost = served_table(wanted, {("iris", 1): "a"}, RoutingTable({})).models["iris"]
    assert ({1: "a"}, experiment) == (lost.versions, lost.experiment)
    assert {} == served_table(wanted, {("iris", 2): "b"}, RoutingTable({})).models


def test_a_swap(scene: Scene) -> None:
    """What is new is loaded beside the old; what is kept stays the same object; what goes is freed."""

    async def play() -> tuple[bool, bool, bool]:
        first = scene.host.choose("iris", None, None).model
        is_done = await scene.swaps.take_up(scene.wanted(2, 2, 1), [])
        is_same = scene.host.choose("iris", 1, None).model is first
        await scene.swaps.take_up(scene.wanted(3, 3, 2), [])
        gone = weakref.ref(first)
        del first
        gc.collect()
        return is_done, is_same, gone() is None

    assert (True, True, True) == asyncio.run(play())
    assert (3, 3, {}) == (scene.champion, scene.swaps.revision, scene.swaps.failures)
    scene.close()


def test_what_cannot_be_loaded(scene: Scene, tmp_path: Path) -> None:
    """The old version answers on, the reason is known, and the failure is counted."""
    scene.paths[2] = changed_byte(scene.paths[2], tmp_path / "changed")
    assert asyncio.run(scene.swaps.take_up(scene.wanted(2, 2, 1), []))
    assert (1, 2) == (scene.champion, scene.swaps.revision)
    assert "model.onnx" in scene.swaps.failures["iris/2"] == scene.host.failures["iris/2"]
    assert 'model_load_failures_total{model="iris",version="2"} 1' in scene.registry.text()
    scene.close()


def test_options_that_do_not_fit(scene: Scene) -> None:
    """A decision on a class that there is not: the model goes on as it was, and says why."""
    decision = Decision(label="yes", otherwise="no", threshold=0.5)
    assert asyncio.run(scene.swaps.take_up(scene.wanted(2, 2, 1, decision=decision), []))
    assert (1, ["iris/2"]) == (scene.champion, list(scene.swaps.failures))
    assert asyncio.run(scene.swaps.take_up(scene.wanted(3, 2, 1), []))
    assert (2, {}) == (scene.champion, scene.swaps.failures)
    scene.close()


def test_the_newest_wins(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollback while a version is loaded is served at once; the load that it overtook changes nothing any more."""
    may_go = threading.Event()

    def slow(wanted: Wanted, key: loading.Key, *others: object) -> Version:
        assert may_go.wait(30)
        return loading.load_version(wanted, key, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(swaps, "load_version", slow)

    async def play() -> tuple[bool, bool, int]:
        deploy = asyncio.create_task(scene.swaps.take_up(scene.wanted(2, 2, 1), []))
        await until(lambda: scene.swaps.is_loading)
        rollback = await scene.swaps.take_up(scene.wanted(3, 1), [])
        now = scene.champion
        may_go.set()
        return rollback, await deploy, now

    assert (True, False, 1) == asyncio.run(play())
    assert (1, 3) == (scene.champion, scene.swaps.revision)
    scene.close()


def test_what_two_want_is_loaded_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is being loaded when something newer wants it as well is waited for, not loaded again."""
    loads = []

    def counted(wanted: Wanted, key: loading.Key, *others: object) -> Version:
        loads.append(key)
        return loading.load_version(wanted, key, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(swaps, "load_version", counted)

    async def play() -> list[bool]:
        wanted = [scene.wanted(2, 2, 1), scene.wanted(3, 2, 1), scene.wanted(4, 2, 3)]
        return await asyncio.gather(*(scene.swaps.take_up(each, []) for each in wanted))

    assert [False, False, True] == asyncio.run(play())
    assert [("iris", 2), ("iris", 3)] == loads
    assert 2 == scene.champion
    scene.close()


def test_lazy_models_are_loaded_by_their_first_call(scene: Scene) -> None:
    """A lazy version costs no load until it is asked for."""

    async def play() -> tuple[str, str]:
        await scene.swaps.take_up(scene.wanted(2, 2, is_lazy=True), [])
        dormant = type(scene.host.choose("iris", None, None).model).__name__
        return dormant, type(await scene.swaps.load("iris", 2)).__name__

    assert ("Dormant", "Model") == asyncio.run(play())
    scene.close()


def test_the_default_model_of_the_settings(bundles: dict[str, Path], tmp_path: Path) -> None:
    """`server.default_model` comes before what the table says."""
    scene = Scene(bundles, tmp_path)
    server = msgspec.structs.replace(Settings().server, default_model="iris")
    made = Swaps(scene.wanted(1, 1), Settings(server=server), Measures(Registry()))
    host = Host([], load=made.load)
    made.begin(host)
    assert "iris" == host.table.default_model
    host.close()
    scene.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.002)
