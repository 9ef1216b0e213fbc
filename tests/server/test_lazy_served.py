"""Versions that are loaded at their first call, by whatever protocol it comes; and what the pages say of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from threaded import Threaded, threaded, wanted_of

import penstock
from loads import wait_for
from penstock.audit import Record
from penstock.errors import BundleRefused
from penstock.loading import dormant_version
from penstock.routing import FallbackOptions, ModelOptions, Wanted
from penstock.runtime import Dormant, Version
from penstock.schema.prediction import Prediction
from penstock.testing import TONGUES, Tongue
from penstock.testing.rpc_tongue import rpc_tongue
from rows import CHURN_ROW

PATH = "/v1/models/churn/predict"
BODY = {"instances": [CHURN_ROW]}
LAZY = ModelOptions(is_lazy=True)


@pytest.fixture(scope="module")
def wanted(bundles: dict[str, Path]) -> Wanted:
    lazy, eager = wanted_of({"churn": bundles["churn"]}, LAZY), wanted_of({"amount": bundles["amount"]}, ModelOptions())
    table = msgspec.structs.replace(lazy.table, models={**lazy.table.models, **eager.table.models})
    return Wanted(1, table, {**lazy.paths, **eager.paths})


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest, wanted: Wanted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Threaded]:
    changes: dict[str, dict[str, object]] = {
        "server": {"fast_lane": request.param},
        "limits": {"breaker_open_s": 0.3, "queue_rows": 40},
    }
    with threaded(tmp_path_factory.mktemp("lazy"), wanted, changes) as process:
        yield process


class Held:
    """Takes the place of what loads for a server: holds loads up, breaks them, counts them."""

    def __init__(self, server: Threaded) -> None:
        self.server = server
        self.host = server.parts.host
        self.gate = threading.Event()
        self.gate.set()
        self.count = 0
        self.broken: str | None = None
        self.load = self.host._load
        self.host._load = self  # type: ignore[assignment]

    async def __call__(self, name: str, version: int) -> Version:
        import asyncio

        self.count += 1
        await asyncio.to_thread(self.gate.wait)
        if self.broken is not None:
            raise BundleRefused(self.broken)
        assert self.load is not None
        return await self.load(name, version)


@pytest.fixture
def held(server: Threaded, wanted: Wanted) -> Iterator[Held]:
    """`churn` is dormant again, and its loads are the test's."""
    held = Held(server)
    sleeping = dormant_version(wanted, ("churn", 1), server.parts.swaps._settings)
    server.on_loop(lambda: held.host.tell_failures({}))
    server.on_loop(lambda: held.host.apply(wanted.table, [sleeping]))
    yield held
    held.gate.set()
    held.host._load = held.load


def is_loaded(server: Threaded) -> bool:
    return server.on_loop(lambda: not isinstance(server.parts.host.choose("churn", None, None).model, Dormant))


@pytest.mark.parametrize("name", [*(tongue.name for tongue in TONGUES), "grpc"])
def test_the_first_call_waits_for_the_load(name: str, held: Held, bundles: dict[str, Path]) -> None:
    """In every protocol: the answer is the model's; another model answers meanwhile; the record is as of any call."""
    server = held.server
    known = {each.name: each for each in TONGUES}
    tongue: Tongue = known.get(name) or rpc_tongue(server.grpc)
    heard: list[Any] = []
    held.gate.clear()

    def ask() -> None:
        with server.client() as client:
            heard.append(tongue.ask(client, "churn", [CHURN_ROW]))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: held.count, "a load")
    with server.client() as client:
        assert 200 == client.post("/v1/models/amount/predict", json={"instances": [{"x": 5.0}]}).status_code
    held.gate.set()
    asking.join(30)
    expected = penstock.open(bundles["churn"]).predict(CHURN_ROW)
    told = [tongue.told(Prediction(**msgspec.to_builtins(prediction))) for prediction in expected]
    assert (200, told, 1) == (heard[0].status, heard[0].answers, held.count)
    record = server.record(heard[0].request_id)
    assert ("prediction", tongue.protocol, "churn", 1) == (record.kind, record.protocol, record.model, record.version)
    assert is_loaded(server)


def test_many_first_calls(held: Held) -> None:
    """They load it once; a call that breaks the schema, or finds the queue full, is told at once."""
    server = held.server
    held.gate.clear()
    answers: list[httpx.Response] = []

    def ask() -> None:
        with server.client() as client:
            answers.append(client.post(PATH, json=BODY))

    asking = [threading.Thread(target=ask) for _ in range(12)]
    for thread in asking:
        thread.start()
    wait_for(lambda: 12 == server.on_loop(lambda: held.host.choose("churn", None, None).batcher.rows), "12 rows")
    with server.client() as client:
        assert 422 == client.post(PATH, json={"instances": [{**CHURN_ROW, "age": "many"}]}).status_code
        full = client.post(PATH, json={"instances": [CHURN_ROW] * 30})
        assert (503, "overloaded") == (full.status_code, full.json()["error"]["code"])
        late = client.post(PATH, json=BODY, headers={"x-deadline-ms": "30"})
        assert (504, "deadline_exceeded") == (late.status_code, late.json()["error"]["code"])
    held.gate.set()
    for thread in asking:
        thread.join(30)
    assert ([200] * 12, 1) == ([answer.status_code for answer in answers], held.count)


def test_a_load_that_fails(held: Held) -> None:
    """503 with Retry-After and no reason for callers; the pages tell it; after a rest the next call tries again."""
    server = held.server
    held.broken = "golden row 3: expected yes, got no"
    with server.client() as client:
        first = client.post(PATH, json=BODY)
        assert (503, "model_unavailable", "1") == (
            first.status_code,
            first.json()["error"]["code"],
            first.headers["retry-after"],
        )
        assert "golden" not in first.text
        assert 503 == client.post(PATH, json=BODY).status_code
        assert {"1": held.broken} == client.get("/v1/models/churn").json()["failures"]
        ready = client.get("/health/ready")
        assert (200, ["churn/1"]) == (ready.status_code, ready.json()["failures"])
        assert 'penstock_version_failed{model="churn",version="1"} 1' in client.get("/metrics").text
        record: Record = server.record(first.json()["error"]["request_id"])
        assert ("failure", "model_unavailable", 1) == (record.kind, record.code, record.rows)
        held.broken = None
        wait_for(lambda: client.post(PATH, json=BODY).status_code == 200, "an answer")
        assert {} == client.get("/v1/models/churn").json()["failures"]
        assert "penstock_version_failed{" not in client.get("/metrics").text
    assert 2 == held.count


def test_a_fallback_while_it_cannot_be_loaded(held: Held, wanted: Wanted) -> None:
    """What is declared answers in its place: rows are known without the model."""
    server = held.server
    held.broken = "no"
    options = ModelOptions(is_lazy=True, fallback=FallbackOptions(kind="abstain"))
    churn = msgspec.structs.replace(wanted.table.models["churn"], options=options)
    table = msgspec.structs.replace(wanted.table, models={**wanted.table.models, "churn": churn})
    server.on_loop(lambda: held.host.apply(table, []))
    with server.client() as client:
        for _ in range(2):
            answer = client.post(PATH, json=BODY)
            assert (200, "abstain", [{}]) == (
                answer.status_code,
                answer.json()["fallback"],
                answer.json()["predictions"],
            )


def test_pages_of_what_is_not_loaded(held: Held) -> None:
    """It is ready in every protocol's words, and described as any other; nothing of that loads it."""
    server = held.server
    with server.client() as client:
        told = client.get("/v1/models/churn").json()
        assert (True, False, "AVAILABLE", {"lazy": True}) == (
            told["ready"],
            told["versions"][0]["loaded"],
            told["model_version_status"][0]["state"],
            told["options"],
        )
        assert "age" in told["schema"]["properties"]
        assert 200 == client.get("/v2/models/churn/ready").status_code
        assert 12 == len(client.get("/v2/models/churn").json()["inputs"])
        assert {"churn", "amount"} == {one["name"] for one in client.post("/v2/repository/index").json()}
        assert 200 == client.get("/v1/models/churn/metadata").status_code
        assert "/v1/models/churn/predict" in client.get("/openapi.json").json()["paths"]
        assert "ready" == client.get("/health/ready").json()["status"]
        assert 'model_loaded{model="churn",version="1"} 0' in client.get("/metrics").text
    assert (0, False) == (held.count, is_loaded(server))
