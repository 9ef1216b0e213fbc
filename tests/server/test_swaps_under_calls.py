"""Random swaps under calls: every call is answered once, by the version that it asked for, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.audit import AuditLog, read_record
from penstock.bundle.bundle import Bundle
from penstock.bundle.load import load_predictor
from penstock.bundle.outputs import Outputs
from penstock.errors import BundleRefused, NotFound
from penstock.routing import Constant, FallbackOptions, ModelLimits, ModelOptions, Routes, RoutingTable
from penstock.runtime import Cost, Dormant, Host, Limits, Model, ResponseCache, Version
from penstock.schema import Check, Columns
from penstock.server.call import Call
from penstock.server.measures import Measures
from penstock.server.predict import Predict
from penstock.server.protocols import Own
from penstock.server.witness import Witness
from penstock.telemetry import Registry

NUMBERS = (1, 2, 3, 4)
BODY = msgspec.json.encode({"instances": [{"x": 2.0}]})


class Times:
    """The bundle's predictor; its answers times the version's number."""

    def __init__(self, predictor: Any, factor: int) -> None:
        self._predictor, self._factor = predictor, factor

    def run(self, columns: Columns) -> Outputs:
        return {name: values * self._factor for name, values in self._predictor.run(columns).items()}


class Shop:
    """Makes versions of one bundle that answer differently; odd ones are slow enough for a thread."""

    def __init__(self, path: Path) -> None:
        self.bundle = Bundle.open(path)
        self.predictor = load_predictor(self.bundle)
        self.check = Check(self.bundle.schema)
        self.base = float(self.predictor.run({"x": np.array([2.0])})["value"][0])
        self.made: list[weakref.ref[Version]] = []
        self.failing = 0
        """How many loads are still to fail."""

    def model(self, number: int) -> Model:
        made = Model(self._bundle(number), version=number, predictor=Times(self.predictor, number), check=self.check)
        made.cost = Cost(1000.0 if number % 2 else 1.0, 0.0, 10)
        return self._known(made)

    def dormant(self, number: int) -> Dormant:
        return self._known(Dormant(self._bundle(number), version=number, check=self.check, cost=Cost()))

    async def load(self, name: str, number: int) -> Version:
        await asyncio.sleep(0)
        if self.failing:
            self.failing -= 1
            raise BundleRefused("a golden row answers otherwise")
        return await asyncio.to_thread(self.model, number)

    def _bundle(self, number: int) -> Bundle:
        manifest = msgspec.structs.replace(self.bundle.manifest, content_digest=f"sha256:{number}")
        return msgspec.structs.replace(self.bundle, manifest=manifest)

    def _known(self, version: Any) -> Any:
        self.made.append(weakref.ref(version))
        return version


class Asked(msgspec.Struct):
    """A call, and what was served when it came."""

    alias: str | None
    number: int | None
    table: RoutingTable
    call: Any = None
    done: int = 0


OPTIONS = st.builds(
    ModelOptions,
    is_lazy=st.booleans(),
    fallback=st.sampled_from([None, FallbackOptions(kind="constant", prediction=Constant(value=-1.0))]),
    limits=st.sampled_from([None, ModelLimits(queue_rows=3)]),
)
TABLES = st.builds(
    lambda numbers, named, options: Routes(
        {number: f"sha256:{number}" for number in sorted(numbers)},
        {alias: number for alias, number in named.items() if number in numbers},
        options,
    ),
    st.sets(st.sampled_from(NUMBERS), min_size=1),
    st.fixed_dictionaries({"champion": st.sampled_from(NUMBERS), "candidate": st.sampled_from(NUMBERS)}),
    OPTIONS,
)
CALLS = st.tuples(st.sampled_from([None, "candidate"]), st.sampled_from([None, *NUMBERS]))
STEPS = st.lists(
    st.one_of(CALLS, CALLS, CALLS, TABLES, st.integers(1, 30)),
    min_size=5,
    max_size=40,
)


@pytest.fixture(scope="module")
def shop(bundles: dict[str, Path]) -> Iterator[Shop]:
    shop = Shop(bundles["amount"])
    gc.collect()
    gc.freeze()  # what other tests have loaded need not be looked through again and again
    yield shop
    gc.unfreeze()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """A new directory for each log."""
    root = tmp_path_factory.mktemp("swaps")
    count = iter(range(10**6))
    yield lambda: root / str(next(count))


@settings(max_examples=25)
@given(steps=STEPS, has_cache=st.booleans(), memory_bytes=st.sampled_from([None, 15, 25]), failing=st.integers(0, 2))
def test_swaps_under_calls(
    shop: Shop,
    directory: Callable[[], Path],
    steps: list[Any],
    has_cache: bool,
    memory_bytes: int | None,
    failing: int,
) -> None:
    """Whatever is swapped while calls wait, run, or wait for a load: a call is answered by what its alias meant when it
    came, its record says so, and each version that is served no more is freed.
    """
    shop.made.clear()
    shop.failing = failing
    asyncio.run(_story(shop, directory(), steps, cache=_cache() if has_cache else None, memory_bytes=memory_bytes))


def _cache() -> ResponseCache:
    return ResponseCache(entries=100, max_bytes=1 << 20, ttl_s=600)


async def _story(
    shop: Shop, audit: Path, steps: list[Any], *, cache: ResponseCache | None, memory_bytes: int | None
) -> None:
    registry = Registry()
    on_swap = cache.clear if cache is not None else lambda: None
    limits = Limits(breaker_open_s=0.01, memory_bytes=memory_bytes)
    host = Host([], on_swap=on_swap, registry=registry, load=shop.load, limits=limits)
    async with AuditLog(audit, registry=registry) as log:
        measures = Measures(registry)
        predict = Predict(host, log, measures=measures, witness=Witness(slow_ms=0), max_rows=9, cache=cache)
        asked: list[Asked] = []
        for step in steps:
            if isinstance(step, int):
                for _ in range(step):
                    await asyncio.sleep(0)
            elif isinstance(step, Routes):
                table = RoutingTable({"amount": step})
                make = shop.dormant if step.options.is_lazy else shop.model
                host.apply(table, [make(number) for _, number in host.missing(table)])
            else:
                asked.append(_ask(predict, host, *step))
        until_s = time.monotonic() + 5
        while any(not each.done for each in asked):
            assert time.monotonic() < until_s, "calls without an answer"
            await asyncio.sleep(0.001)
        _check_all(asked, shop)
        host.swap([])
        records = [read_record(line) for line in log.path.read_bytes().splitlines() if line.startswith(b'{"seq"')]
        answered = {each.call.reply.request_id: _version(each.call) for each in asked}
        assert answered == {record.request_id: record.version for record in records}
        asked.clear()
        while any(made() is not None for made in shop.made):  # a thread lets go of its run a moment later
            assert time.monotonic() < until_s, "a version that is served no more stays in memory"
            gc.collect()
            await asyncio.sleep(0)
    host.close()


def _check_all(asked: list[Asked], shop: Shop) -> None:
    for each in asked:
        _check(each, shop)


def _ask(predict: Predict, host: Host, alias: str | None, number: int | None) -> Asked:
    asked = Asked(alias, number, host.table)
    call = asked.call = Call(Own(), BODY, time.monotonic_ns())
    call.model, call.alias, call.version = "amount", alias, number
    call.deadline_ns = time.monotonic_ns() + 20 * 10**9

    def done(call: Call) -> None:
        asked.done += 1

    call.done = done
    predict.intake.held_bytes += len(BODY)
    predict.start(call)
    return asked


def _version(call: Call) -> int | None:
    return call.version if call.reply.model is None else call.reply.model.version


def _check(asked: Asked, shop: Shop) -> None:
    reply = asked.call.reply
    assert 1 == asked.done
    try:
        _, number = asked.table.choose("amount", asked.number, asked.alias)
    except NotFound:
        assert isinstance(reply.failure, NotFound)
        return
    if reply.failure is not None:
        if reply.failure.code != "model_unavailable":  # where a load failed, which is for all who wait for it
            assert ("overloaded", 3) == (reply.failure.code, _queue_rows(asked.table))
        return
    value = -1.0 if reply.fallback is not None else shop.base * number
    assert (number, [value]) == (reply.answerer.version, [prediction.value for prediction in reply.predictions])


def _queue_rows(table: RoutingTable) -> int | None:
    limits = table.models["amount"].options.limits
    return None if limits is None else limits.queue_rows
