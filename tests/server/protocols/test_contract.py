"""Every protocol gives the same numbers, the same refusals and the same records for the same model and rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.testing import TONGUES, Running, Tongue, check_protocol, running
from penstock.testing.rpc_tongue import rpc_tongue
from rows import CHURN_ROW, IRIS_ROW

Row = dict[str, Any]
ROWS: dict[str, list[Row]] = {
    "iris": [IRIS_ROW, {**IRIS_ROW, "petal_length": 4.9, "petal_width": 1.5}, {**IRIS_ROW, "sepal_width": 0.1 + 0.2}],
    "churn": [
        CHURN_ROW,
        {**CHURN_ROW, "satisfaction": 3.5, "plan": "basic", "region": "nowhere", "device": "tablet"},
        {**CHURN_ROW, "age": 19, "income": 1e-300, "usage_gb": 1 / 3, "late_payments": 12},
    ],
    "amount": [{"x": 4.75}, {"x": -0.0}, {"x": 1e15}],
    "growth": [{"x": 5.1}, {"x": 6.25}],
}


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    served = [bundles[name] for name in ROWS]
    with running(served, tmp_path_factory.mktemp("contract"), "--grpc-port", "0") as process:
        yield process


@pytest.mark.parametrize("model", ROWS)
@pytest.mark.parametrize("tongue", TONGUES, ids=lambda tongue: tongue.name)
def test_a_protocol_keeps_to_the_contract(
    tongue: Tongue, model: str, server: Running, bundles: dict[str, Path]
) -> None:
    """Over a real server and its real log, against our own JSON."""
    schema = penstock.open(bundles[model]).schema
    check_protocol(tongue, server, model, ROWS[model], schema=schema)


@pytest.mark.parametrize("model", ROWS)
def test_grpc_keeps_to_the_contract(model: str, server: Running, bundles: dict[str, Path]) -> None:
    """The same over gRPC."""
    [address] = re.findall(r"gRPC at (\S+)", server.text)
    schema = penstock.open(bundles[model]).schema
    check_protocol(rpc_tongue(address), server, model, ROWS[model], schema=schema)
