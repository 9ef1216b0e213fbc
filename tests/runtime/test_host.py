"""What is served: swapped at once, and a replaced version is kept until its last hold is gone, then freed."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.bundle.bundle import Bundle
from penstock.errors import BundleRefused, CallFailure, ModelFailed, NotFound, SettingsError
from penstock.routing import Routes, RoutingTable
from penstock.runtime import Fallback, Host, Limits, Model, Results, Served, Ticket, Timing
from penstock.schema.prediction import Prediction
from penstock.telemetry import Registry


def load(path: Path, version: int = 1) -> Model:
    return Model.load(Bundle.open(path), version=version)


def numbers(registry: Registry, name: str) -> dict[tuple[str, ...], float]:
    [family] = [family for family in registry.state() if family.name == name]
    return {labels: values[0] for labels, values in family.samples}


@pytest.fixture(scope="module")
def models(bundles: dict[str, Path]) -> list[Model]:
    """`growth`, which runs in a thread, as two versions."""
    return [load(bundles["growth"], 1), load(bundles["growth"], 2)]


def test_a_swap_changes_all_at_once(models: list[Model], bundles: dict[str, Path]) -> None:
    """Table and versions change together; what stays keeps its queue and its breaker."""
    swaps: list[int] = []
    host = Host(models[:1], on_swap=lambda: swaps.append(1))
    stays = host.choose("growth", None, None)
    iris = load(bundles["iris"])
    aliases = {"champion": 2, "old": 1}
    table = RoutingTable(
        {"growth": Routes({1: models[0].digest, 2: models[1].digest}, aliases), "iris": Routes({1: iris.digest}, {})}
    )
    host.swap([*models, iris], table)
    assert stays is host.choose("growth", None, "old")
    assert models[1] is host.choose("growth", None, None).model
    assert ([*models, iris], table, 2) == (host.models(), host.table, len(swaps))
    host.swap([])
    with pytest.raises(NotFound, match="there is nothing"):
        host.choose("growth", None, None)
    host.close()


def test_a_swap_that_cannot_be_changes_nothing(models: list[Model]) -> None:
    """Two versions of one number, a table beyond what is loaded, a fallback that does not fit: all stays as it was."""
    host = Host(models[:1], fallbacks={"iris": Fallback("constant")})
    before = (host.models(), host.table)
    with pytest.raises(BundleRefused, match="version 1 of 'growth' is there twice"):
        host.swap([models[0], models[0]])
    with pytest.raises(ValueError, match="Expected version 7 of 'growth' among the loaded models"):
        host.swap(models, RoutingTable({"growth": Routes({1: "", 2: ""}, {"champion": 7})}))
    assert before == (host.models(), host.table)
    with pytest.raises(SettingsError, match="at `fallback.growth`"):
        Host(models, fallbacks={"growth": Fallback("constant", prediction=Prediction(label=1))})
    host.close()


def test_a_replaced_version_is_freed_after_its_last_hold(bundles: dict[str, Path]) -> None:
    """Calls that hold it get their answers; then its thread ends and its memory is given back."""

    class Asking(Ticket):
        def __init__(self, served: Served) -> None:
            self.rows = served.model.check.from_objects([{"x": 1.0}]).rows
            self.served: Served | None = served
            served.hold()

    told: list[float | None] = []

    def land(tickets: Sequence[Ticket], results: Results, timing: Timing | None) -> None:
        for ticket, result in zip(tickets, results, strict=True):
            assert isinstance(ticket, Asking) and ticket.served is not None and not isinstance(result, CallFailure)
            told.append(result[0].value)
            ticket.served.release()
            ticket.served = None

    async def story() -> None:
        registry = Registry()
        old, new = load(bundles["growth"]), load(bundles["growth"])
        gone = weakref.ref(old)
        host = Host([old], registry=registry)
        served = host.choose("growth", None, None)
        pool = served.pool
        host.land = land
        for _ in range(2):
            served.batcher.submit(Asking(served))
        await asyncio.sleep(0)
        host.swap([new])
        assert ([], 2.0) == (told, numbers(registry, "model_active_requests")[("growth",)])
        del served, old
        while len(told) < 2:
            await asyncio.sleep(0)
        assert new.predict({"x": 1.0})[0].value == told[0] == told[1]
        with pytest.raises(RuntimeError, match="shutdown"):
            pool.submit(print)  # type: ignore[union-attr]
        until_s = time.monotonic() + 10
        while gone() is not None and time.monotonic() < until_s:  # the thread lets go of its run a moment later
            await asyncio.sleep(0)
            gc.collect()
        assert gone() is None
        assert 0.0 == numbers(registry, "model_active_requests")[("growth",)]
        host.close()

    asyncio.run(story())


def test_a_version_that_nobody_holds_is_freed_at_once(models: list[Model]) -> None:
    """Its thread ends, and its metrics leave the output."""
    registry = Registry()
    host = Host(models, registry=registry)
    pool = host.choose("growth", 2, None).pool
    host.swap(models[:1])
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(print)  # type: ignore[union-attr]
    assert {("growth", "1"): 0.0} == numbers(registry, "penstock_breaker_open")
    host.close()


def test_a_breaker_that_opens_shows(models: list[Model]) -> None:
    """The gauge is 1 while the breaker of a version is open; another version has a breaker of its own."""
    registry = Registry()
    host = Host(models, registry=registry, limits=Limits(breaker_failures=2))
    served = host.choose("growth", 1, None)
    for _ in range(2):
        served.breaker.fail(ModelFailed("no"))
    assert {("growth", "1"): 1.0, ("growth", "2"): 0.0} == numbers(registry, "penstock_breaker_open")
    served.breaker.succeed()
    assert {("growth", "1"): 0.0, ("growth", "2"): 0.0} == numbers(registry, "penstock_breaker_open")
    host.close()
