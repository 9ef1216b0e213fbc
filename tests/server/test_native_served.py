"""Native and compiled models side by side, and models that fail: whoever is concerned is told, nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

import penstock
from running import Running, running

GROWTH = "/v1/models/growth/predict"
AMOUNT = "/v1/models/amount/predict"
IRIS = "/v1/models/iris/predict"


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(list(bundles.values()), tmp_path_factory.mktemp("native")) as process:
        yield process


def ask_all(server: Running, calls: list[tuple[str, Any]]) -> list[httpx.Response]:
    """The answers to calls that are all under way at once."""

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=len(calls))
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=60, limits=limits) as http:
            return await asyncio.gather(*(http.post(path, json={"instances": rows}) for path, rows in calls))

    return asyncio.run(ask())


def test_both_flavours_at_once(server: Running, bundles: dict[str, Path], iris_row: dict[str, Any]) -> None:
    """Concurrent calls of a native and of a compiled model are each answered as the bundle itself answers."""
    growth, iris = penstock.open(bundles["growth"]), penstock.open(bundles["iris"])
    assert ("native", "onnx") == (growth.bundle.manifest.flavour, iris.bundle.manifest.flavour)
    calls: list[tuple[str, list[dict[str, Any]]]] = []
    for number in range(24):
        calls.append((GROWTH, [{"x": 4.0 + number / 10 + step} for step in range(1 + number % 3)]))
        calls.append((IRIS, [{**iris_row, "petal_length": number / 4}]))
    for (path, rows), answer in zip(calls, ask_all(server, calls), strict=True):
        model = growth if path == GROWTH else iris
        assert 200 == answer.status_code
        told = msgspec.convert(answer.json()["predictions"], list[penstock.Prediction])
        expected = model.predict(rows)
        assert [one.label for one in expected] == [one.label for one in told]
        if path == GROWTH:
            assert [one.value for one in expected] == pytest.approx([one.value for one in told], rel=1e-12)


@pytest.mark.parametrize(
    ("path", "bad", "good"),
    [(GROWTH, {"x": 1e300}, {"x": 5.0}), (AMOUNT, {"x": 1.7e308}, {"x": 5.0})],
    ids=["it raises", "its number is not finite"],
)
def test_a_model_that_fails(server: Running, path: str, bad: dict[str, float], good: dict[str, float]) -> None:
    """A row on which the model fails is 500 for its own callers; those whose rows were in the same run are answered.

    The reply says neither where nor in which code; the record is of kind failure, with the row.
    """
    calls = [(path, [good, bad] if number % 4 == 0 else [good]) for number in range(32)]
    answers = ask_all(server, calls)
    assert [500 if number % 4 == 0 else 200 for number in range(32)] == [answer.status_code for answer in answers]
    for answer in answers:
        if answer.status_code == 200:
            assert "prediction" == server.record(answer.json()["request_id"]).kind
            continue
        error = answer.json()["error"]
        record = server.record(error["request_id"])
        code = "model_failed" if path == GROWTH else "output_refused"
        assert (code, "failure", code, [good, bad]) == (
            error["code"],
            record.kind,
            record.code,
            record.input,
        )
        assert not any(word in answer.text for word in ("Traceback", "File ", ".py", "site-packages", "infinity"))
    if path == GROWTH:
        assert "model_failed: The model refused the rows: ValueError: Input X contains infinity" in server.text


def test_the_row_that_is_to_blame_alone(server: Running) -> None:
    """A failing model answers the next call as if nothing had been."""
    answers = [
        ask_all(server, [(AMOUNT, [{"x": x}])])[0].status_code for x in (1.7e308, 5.0, 1.7e308, 5.0)
    ]  # fmt: skip
    assert [500, 200, 500, 200] == answers
