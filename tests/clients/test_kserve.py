"""KServe's own inference clients, unmodified and in an environment of their own, against a real server
(`make clients`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cellar import Cellar, cellar
from environments import called
from test_triton import require_equal


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cellar]:
    with cellar(tmp_path_factory.mktemp("kserve")) as found:
        yield found


@pytest.fixture(scope="module")
def answers(served: Cellar) -> dict[str, Any]:
    return called("kserve", "kserve_calls.py", served.url, served.grpc, str(served.rows))


def test_rest(served: Cellar, answers: dict[str, Any]) -> None:
    """InferenceRESTClient gets the original's predictions with JSON and binary tensors, and knows what is ready."""
    said = answers["rest"]
    assert ([True, True, True, False], "a-17") == (said.pop("ready"), said.pop("id"))
    assert "Expected an array of values, got no value - at `$.inputs.acid`" in said.pop("refused")
    require_equal(served, said, 6)


def test_grpc(served: Cellar, answers: dict[str, Any]) -> None:
    """InferenceGRPCClient gets the original's predictions with raw and typed contents."""
    said = answers["grpc"]
    assert ([True, True, True], "a-17") == (said.pop("ready"), said.pop("id"))
    require_equal(served, said, 4)
