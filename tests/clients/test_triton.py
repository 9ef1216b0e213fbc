"""Triton's own clients, unmodified and each in an environment of its own, against a real server (`make clients`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cellar import Cellar, cellar
from environments import called


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cellar]:
    with cellar(tmp_path_factory.mktemp("triton")) as found:
        yield found


@pytest.fixture(scope="module")
def http(served: Cellar) -> dict[str, Any]:
    return called("triton-http", "triton_http_calls.py", served.url.removeprefix("http://"), str(served.rows))


@pytest.fixture(scope="module")
def grpc(served: Cellar) -> dict[str, Any]:
    return called("triton-grpc", "triton_grpc_calls.py", served.grpc, str(served.rows))


def require_equal(served: Cellar, answers: dict[str, Any], cases: int) -> None:
    """Every case has the labels of the original model, and its probabilities to 1e-12."""
    assert cases == len(answers)
    for case, (labels, probabilities) in answers.items():
        expected = served.expected["narrow" if "fp32" in case else case.split()[0]]
        assert expected[0] == labels, case
        assert expected[1] == [pytest.approx(row, rel=0, abs=1e-12) for row in probabilities], case


def test_http(served: Cellar, http: dict[str, Any]) -> None:
    """tritonclient[http] gets the original's predictions with JSON and binary tensors, columns and matrices."""
    require_equal(served, http["sync"], 8)
    require_equal(served, {"wine": http["said"]["gzip"]}, 1)


def test_http_asyncio(served: Cellar, http: dict[str, Any]) -> None:
    """Its asyncio client gets the same, several calls at a time."""
    assert [True, True, True] == http["asyncio"].pop("ready")
    require_equal(served, http["asyncio"], 8)


def test_http_around_predictions(http: dict[str, Any]) -> None:
    """Readiness, metadata, index, ids and refusals are as the client expects them."""
    said = http["said"]
    assert ([True, True, True], False, "penstock", "a-17") == (
        said["ready"],
        said["unknown"],
        said["server"],
        said["id"],
    )
    assert said["refused"].startswith("422 Expected an array of values, got no value - at `$.inputs.sugar`")
    assert ["INT64", "FP64", "BOOL", "BYTES"] == [tensor["datatype"] for tensor in said["metadata"]["inputs"]]
    assert ["shop", "wine"] == [model["name"] for model in said["index"]]


def test_grpc(served: Cellar, grpc: dict[str, Any]) -> None:
    """tritonclient[grpc] gets the original's predictions."""
    require_equal(served, grpc["sync"], 5)


def test_grpc_asyncio(served: Cellar, grpc: dict[str, Any]) -> None:
    """Its asyncio client gets the same, several calls at a time."""
    assert [True, True, True] == grpc["asyncio"].pop("ready")
    require_equal(served, grpc["asyncio"], 5)


def test_grpc_around_predictions(grpc: dict[str, Any]) -> None:
    """Readiness, metadata, index, ids, chosen outputs and refusals are as the client expects them."""
    said = grpc["said"]
    assert ([True, True, True], False, "penstock", "a-17", ["label"]) == (
        said["ready"],
        said["unknown"],
        said["server"],
        said["id"],
        said["outputs"],
    )
    assert said["refused"].startswith("StatusCode.INVALID_ARGUMENT Expected an array of values, got no value")
    assert ["INT64", "FP64", "BOOL", "BYTES"] == said["metadata"]
    assert ["shop", "wine"] == said["index"]
