"""TensorFlow Serving's REST API as its documentation calls it: plain HTTP, the content type that `curl -d` sends.

Source of the requests: tensorflow/serving, `tensorflow_serving/g3doc/api_rest.md`, with its model half_plus_three.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import penstock
from running import running


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where half_plus_three is served."""
    home = tmp_path_factory.mktemp("tf-client")
    path = penstock.pack(_model(), name="half_plus_three", sample=_sample(), out=home).path
    with running([path], home / "home") as server:
        yield f"{server.url}/v1/models/half"


def _sample() -> pd.DataFrame:
    return pd.DataFrame({"x": np.linspace(-8.0, 8.0, 65)})


def _model() -> LinearRegression:
    return LinearRegression().fit(_sample(), _sample()["x"] / 2 + 3)


def _curl(url: str, data: str | None = None) -> tuple[int, Any]:
    """As curl without options or with -d, which calls any text a form."""
    request = urllib.request.Request(url, None if data is None else data.encode())
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_status(url: str) -> None:
    """The status of a model names its version and that it is available."""
    status, body = _curl(f"{url}_plus_three")
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert (200, [state]) == (status, body["model_version_status"])


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/champion"])
def test_predict(url: str, place: str) -> None:
    """Three scalars in, three out: what the original model predicts."""
    expected = _model().predict(pd.DataFrame({"x": [1.0, 2.0, 5.0]})).tolist()
    status, body = _curl(f"{url}_plus_three{place}:predict", '{"instances": [1.0,2.0,5.0]}')
    assert (200, ["predictions"]) == (status, list(body))
    np.testing.assert_allclose(body["predictions"], expected, rtol=1e-12)
    np.testing.assert_allclose(body["predictions"], [3.5, 4.0, 5.5], rtol=1e-9)
    assert {"outputs": body["predictions"]} == _curl(f"{url}_plus_three:predict", '{"inputs": [1.0,2.0,5.0]}')[1]


def test_an_unknown_model(url: str) -> None:
    """An unknown model is 404 with an error text."""
    status, body = _curl(f"{url}:predict", '{"instances": [1.0,5.0]}')
    assert (404, ["error"]) == (status, list(body))


def test_regress(url: str) -> None:
    """The methods for tf.Example are refused, and say what to send."""
    data = '{"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}'
    status, body = _curl(f"{url}_plus_three:regress", data)
    assert (400, True) == (status, ":predict" in body["error"])
