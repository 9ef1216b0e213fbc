"""Versions that are not loaded: their first call loads them, once; above the memory budget they are let go again."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.bundle.bundle import Bundle
from penstock.errors import BundleRefused, CallFailure, DeadlineExceeded, ModelUnavailable, Overloaded, PenstockError
from penstock.routing import Decision, FallbackOptions, ModelLimits, ModelOptions, Routes, RoutingTable
from penstock.runtime import Cost, Dormant, Host, Limits, Model, Results, Served, Ticket, Timing, Version
from penstock.runtime import budget as budget_module
from penstock.schema import Check
from penstock.schema.prediction import Prediction
from penstock.telemetry import Registry
from rows import CHURN_ROW, IRIS_ROW

LAZY = ModelOptions(is_lazy=True)
ROWS: dict[str, dict[str, Any]] = {"iris": IRIS_ROW, "churn": CHURN_ROW, "growth": {"x": 5.0}, "amount": {"x": 5.0}}


class Loads:
    """Loads bundles in a thread, while `gate` is open; counts, and fails as often as it is told."""

    def __init__(self, bundles: dict[str, Path]) -> None:
        self._bundles = bundles
        self.gate = asyncio.Event()
        self.gate.set()
        self.loaded: list[tuple[str, int]] = []
        self.failing = 0

    async def __call__(self, name: str, version: int) -> Version:
        self.loaded.append((name, version))
        await self.gate.wait()
        if self.failing:
            self.failing -= 1
            raise BundleRefused("a golden row answers otherwise")
        return await asyncio.to_thread(load, self._bundles[name], version)


def load(path: Path, version: int = 1, memory_bytes: int = 10) -> Model:
    model = Model.load(Bundle.open(path), version=version)
    model.cost = Cost(model.cost.row_us, model.cost.rows_64_us, memory_bytes)
    return model


def dormant(path: Path, version: int = 1) -> Dormant:
    bundle = Bundle.peek(path)
    return Dormant(bundle, version=version, check=Check(bundle.schema), cost=Cost())


def table_of(models: Sequence[Version], options: ModelOptions = LAZY, **aliases: int) -> RoutingTable:
    """Every model with its versions; `champion` is the first unless `aliases` say otherwise."""
    routes: dict[str, Routes] = {}
    for model in models:
        known = routes.get(model.name, Routes({}, {"champion": model.version}, options))
        routes[model.name] = Routes({**known.versions, model.version: model.digest}, aliases or known.aliases, options)
    return RoutingTable(routes)


class Asking(Ticket):
    """A call that keeps what came of it."""

    def __init__(self, served: Served, rows: int = 1) -> None:
        row = ROWS[served.model.name]
        self.rows = served.model.check.from_objects([row] * rows).rows
        self.served = served
        self.result: object = None

    def submit(self) -> Asking:
        self.served.admit(self)
        self.served.hold()
        try:
            self.served.batcher.submit(self)
        except CallFailure:
            self.served.release()
            raise
        return self


def landing(tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
    for ticket, result in zip(tickets, results, strict=True):
        assert isinstance(ticket, Asking)
        ticket.result = result
        ticket.served.release()


async def until(holds: Callable[[], object]) -> None:
    until_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until_s, "it did not come true"
        await asyncio.sleep(0.001)


def host_of(models: Sequence[Version], table: RoutingTable, load: Loads | None, **more: Any) -> Host:
    host = Host(models, table, load=load, **more)
    host.land = landing
    return host


@pytest.mark.parametrize("name", ["iris", "growth"])
def test_the_first_calls_load_it_once(bundles: dict[str, Path], name: str) -> None:
    """All that come meanwhile wait for the one load; from then on it is served as any other, on the loop or beside."""

    async def story() -> None:
        loads = Loads(bundles)
        loads.gate.clear()
        registry = Registry()
        sleeping = dormant(bundles[name])
        host = host_of([sleeping], table_of([sleeping]), loads, registry=registry)
        first = host.choose(name, None, None)
        asked = [Asking(first).submit() for _ in range(3)]
        await until(lambda: loads.loaded)
        asked += [Asking(first, rows=2).submit() for _ in range(3)]
        assert [None] * 6 == [each.result for each in asked]
        loads.gate.set()
        await until(lambda: all(each.result is not None for each in asked))
        awake = host.choose(name, 1, None)
        assert isinstance(awake.model, Model)
        expected = awake.model.predict(ROWS[name])
        assert [expected] * 3 + [expected * 2] * 3 == [each.result for each in asked]
        later = Asking(awake).submit()
        await until(lambda: later.result is not None)
        assert ([(name, 1)], expected) == (loads.loaded, later.result)
        gone = weakref.ref(sleeping)
        asked.clear()
        del sleeping, first
        await until(lambda: gc.collect() is not None and gone() is None)
        host.close()

    asyncio.run(story())


def test_a_load_that_fails_is_tried_again_after_a_rest(bundles: dict[str, Path]) -> None:
    """Its callers get 503 with the time to wait, nobody loads meanwhile, and the reason is told until it is loaded."""

    async def story() -> None:
        loads = Loads(bundles)
        loads.failing = 2
        sleeping = dormant(bundles["iris"])
        host = host_of([sleeping], table_of([sleeping]), loads, limits=Limits(breaker_open_s=0.2))
        served = host.choose("iris", None, None)
        asked = [Asking(served).submit() for _ in range(2)]
        await until(lambda: all(each.result for each in asked))
        for each in asked:
            [failure] = each.result if isinstance(each.result, list) else [each.result]
            assert isinstance(failure, ModelUnavailable)
            assert ("version 1 of 'iris' could not be loaded: try again in 1 s", 1) == (
                str(failure),
                failure.retry_after_s,
            )
        assert {"iris/1": "a golden row answers otherwise"} == host.failures
        with pytest.raises(ModelUnavailable, match="iris version 1 could not be loaded and is left alone"):
            Asking(served).submit()
        await until(lambda: served.breaker.state == "half-open")
        again = Asking(served).submit()
        with pytest.raises(ModelUnavailable):
            Asking(served).submit()  # one tries, the others wait for what comes of it
        await until(lambda: again.result)
        assert isinstance(again.result, ModelUnavailable)
        await until(lambda: served.breaker.state == "half-open")
        last = Asking(served).submit()
        await until(lambda: last.result)
        awake = host.choose("iris", None, None)
        assert isinstance(awake.model, Model)
        assert awake.model.predict(IRIS_ROW) == last.result
        assert ({}, 3, "closed") == (host.failures, len(loads.loaded), awake.breaker.state)
        host.close()

    asyncio.run(story())


def test_another_content_is_not_served(bundles: dict[str, Path]) -> None:
    """What is loaded must be what the table names."""

    async def story() -> None:
        sleeping = dormant(bundles["iris"])
        host = host_of([sleeping], table_of([sleeping]), Loads({"iris": bundles["amount"]}))
        asked = Asking(host.choose("iris", None, None)).submit()
        await until(lambda: asked.result)
        assert isinstance(asked.result, ModelUnavailable)
        assert "a published bundle is not changed" in host.failures["iris/1"]
        host.close()

    asyncio.run(story())


def test_who_waits_is_bounded_and_has_a_deadline(bundles: dict[str, Path]) -> None:
    """A full queue is told at once; a deadline ends the wait and not the load; other versions answer meanwhile."""

    async def story() -> None:
        loads = Loads(bundles)
        loads.gate.clear()
        sleeping, awake = dormant(bundles["iris"]), load(bundles["amount"])
        host = host_of([sleeping, awake], table_of([sleeping, awake]), loads, limits=Limits(queue_rows=4))
        served = host.choose("iris", None, None)
        hasty = Asking(served, rows=2)
        hasty.deadline_ns = time.monotonic_ns() + 20_000_000
        patient = Asking(served, rows=2).submit()
        hasty.submit()
        with pytest.raises(Overloaded):
            Asking(served).submit()
        other = Asking(host.choose("amount", None, None)).submit()
        await until(lambda: other.result and hasty.result)
        assert isinstance(hasty.result, DeadlineExceeded)
        assert patient.result is None
        loads.gate.set()
        await until(lambda: patient.result)
        assert isinstance(patient.result, list)
        host.close()

    asyncio.run(story())


def test_a_swap_while_it_loads(bundles: dict[str, Path]) -> None:
    """Its callers are answered by what they asked for, though it is served no more; nothing of it stays."""

    async def story() -> None:
        loads = Loads(bundles)
        loads.gate.clear()
        sleeping, other = dormant(bundles["iris"]), load(bundles["amount"])
        host = host_of([sleeping, other], table_of([sleeping, other]), loads)
        asked = Asking(host.choose("iris", None, None)).submit()
        await until(lambda: loads.loaded)
        host.apply(table_of([other]), [])
        loads.gate.set()
        await until(lambda: asked.result)
        assert isinstance(asked.result, list)
        assert [other] == host.models()
        gone = weakref.ref(sleeping)
        asked.served = host.choose("amount", None, None)
        del sleeping
        await until(lambda: gc.collect() is not None and gone() is None)
        host.close()

    asyncio.run(story())


def test_the_budget(bundles: dict[str, Path]) -> None:
    """The least recently used version that no alias names is let go, its calls are answered first; a call by its
    number, or an alias that names it again, has it loaded again.
    """

    async def story() -> None:
        loads = Loads(bundles)
        one, two, three = (load(bundles["growth"], number) for number in (1, 2, 3))
        options = ModelOptions()
        registry = Registry()
        host = host_of(
            [one, two], table_of([one, two], options), loads, limits=Limits(memory_bytes=25), registry=registry
        )
        held = host.choose("growth", 2, None)
        asked = Asking(held).submit()
        host.apply(table_of([one, two, three], options, champion=3), [three])
        assert [Dormant, Model, Model] == [type(model) for model in host.models()]  # 1 never ran since it was made
        await until(lambda: asked.result)
        host.apply(table_of([one, two, three], options, champion=3), [])
        assert [Dormant, Model, Model] == [type(model) for model in host.models()]
        gone = weakref.ref(one)
        table = table_of([one, two, three], options, champion=1)
        del one
        await until(lambda: gc.collect() is not None and gone() is None)
        assert [("growth", 1)] == host.missing(table)
        assert {("growth", "1"): 0.0, ("growth", "2"): 1.0, ("growth", "3"): 1.0} == numbers(registry, "model_loaded")
        again = Asking(host.choose("growth", 1, None)).submit()
        await until(lambda: again.result)
        assert [("growth", 1)] == loads.loaded
        assert 2 == sum(isinstance(model, Model) for model in host.models())
        assert isinstance(host.choose("growth", 3, None).model, Model)
        host.apply(table, [load(bundles["growth"])] if host.missing(table) else [])
        assert isinstance(host.choose("growth", None, None).model, Model)
        host.close()

    asyncio.run(story())


def test_lazy_ones_are_let_go_when_unused(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Though an alias names them; the next call loads them again."""
    monkeypatch.setattr(budget_module, "UNUSED_S", 0.0)

    async def story() -> None:
        loads = Loads(bundles)
        sleeping = [dormant(bundles[name]) for name in ("amount", "growth")]
        host = host_of(sleeping, table_of(sleeping), loads, limits=Limits(memory_bytes=1))
        for name in ("amount", "growth", "amount"):
            asked = Asking(host.choose(name, None, None)).submit()
            await until(lambda asked=asked: asked.result)  # type: ignore[misc]
            assert isinstance(asked.result, list)
        await until(lambda: all(isinstance(model, Dormant) for model in host.models()))
        assert [("amount", 1), ("growth", 1), ("amount", 1)] == loads.loaded
        host.close()

    asyncio.run(story())


def test_options_of_a_version_that_stays(bundles: dict[str, Path]) -> None:
    """Bounds and the fallback change in place; another decision is another queue with the same breaker, and what waits
    is decided as it was when it came.
    """

    async def story() -> None:
        model = load(bundles["churn"])
        host = host_of([model], table_of([model], ModelOptions()), None)
        served = host.choose("churn", None, None)
        limits = ModelLimits(queue_rows=7, breaker_failures=1, breaker_open_s=9.0)
        fallback = FallbackOptions(kind="abstain")
        host.apply(table_of([model], ModelOptions(limits=limits, fallback=fallback)), [])
        assert served is host.choose("churn", None, None)
        assert (7, "abstain") == (served.batcher.most_rows, served.fallback and served.fallback.kind)
        served.breaker.fail(object())
        assert ("open", 9) == (served.breaker.state, served.breaker.retry_after_s())
        served.breaker.succeed()
        before = Asking(served).submit()
        never = Decision(label="yes", otherwise="no", threshold=1.0, abstain=(0.0, 1.0))
        host.apply(table_of([model], ModelOptions(decision=never)), [])
        other = host.choose("churn", None, None)
        after = Asking(other).submit()
        await until(lambda: before.result and after.result)
        assert served is not other and served.breaker is other.breaker
        assert (None, 10_000) == (other.fallback, other.batcher.most_rows)
        [plain] = model.predict(CHURN_ROW)
        assert ([plain], [Prediction(None, plain.probabilities)]) == (before.result, after.result)
        host.apply(table_of([model], ModelOptions()), [])
        last = Asking(host.choose("churn", None, None)).submit()
        await until(lambda: last.result)
        assert [plain] == last.result
        host.close()

    asyncio.run(story())


def test_options_that_do_not_fit_change_nothing(bundles: dict[str, Path]) -> None:
    """A decision on classes that are not there refuses the swap; a version that no alias names does without it."""
    one, two = load(bundles["churn"], 1), load(bundles["iris"], 1)
    host = host_of([one, two], table_of([one, two], ModelOptions()), None)
    before = (host.models(), host.table)
    decision = Decision(label="yes", otherwise="no", threshold=0.5)
    with pytest.raises(PenstockError, match="`label` to be one of 0, 1, 2, got 'yes' - at `decision` of 'iris'"):
        host.apply(table_of([one, two], ModelOptions(decision=decision)), [])
    assert before == (host.models(), host.table)
    routes = Routes({1: two.digest}, {}, ModelOptions(decision=decision))
    host.apply(RoutingTable({**table_of([one]).models, "iris": routes}), [])
    assert host.choose("iris", 1, None).decision is None
    host.close()


def numbers(registry: Registry, name: str) -> dict[tuple[str, ...], float]:
    [family] = [family for family in registry.state() if family.name == name]
    return {labels: values[0] for labels, values in family.samples}
