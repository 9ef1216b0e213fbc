"""MLflow's `/invocations` and SageMaker's `/ping` on a real server, on the fast lane and beside it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from forms_oracle import own_answers

from rows import CHURN_ROW, IRIS_ROW
from running import Running, running


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Iris answers by default."""
    home, served = tmp_path_factory.mktemp("mlflow"), [bundles["iris"], bundles["churn"], bundles["amount"]]
    with running(served, home, "--default-model", "iris", server__fast_lane=request.param) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "application/json; format=pandas-split"]
)
def test_labels_and_probabilities(client: httpx.Client, kind: str) -> None:
    """Labels as `predict` gives them, or probabilities where `predict_proba` is asked for; of our own API's numbers."""
    rows = [IRIS_ROW, {**IRIS_ROW, "petal_length": 4.9, "petal_width": 1.6}]
    frame = {"dataframe_split": {"columns": list(IRIS_ROW), "data": [list(row.values()) for row in rows]}}
    own = own_answers(client, "iris", rows)
    headers = {"content-type": kind}
    labels = client.post("/invocations", content=json.dumps(frame), headers=headers)
    assert (200, {"predictions": [one["label"] for one in own]}) == (labels.status_code, labels.json())
    frame["params"] = {"predict_method": "predict_proba"}
    found = client.post("/invocations", content=json.dumps(frame), headers=headers).json()
    assert {"predictions": [list(one["probabilities"].values()) for one in own]} == found


def test_csv_over_http(client: httpx.Client, server: Running) -> None:
    """A model that is named in a header, asked in CSV, with a gap; recorded under a name of its own."""
    text = io.StringIO()
    csv.writer(text).writerows([CHURN_ROW, CHURN_ROW.values()])
    headers = {"content-type": "text/csv; charset=utf-8", "x-penstock-model": "churn"}
    answer = client.post("/invocations", content=text.getvalue(), headers=headers)
    assert (200, {"predictions": [own_answers(client, "churn", [CHURN_ROW])[0]["label"]]}) == (
        answer.status_code,
        answer.json(),
    )
    record = server.record(answer.headers["x-penstock-request-id"])
    assert ("mlflow-csv", "churn", 41) == (record.protocol, record.model, record.input[0]["age"])


def test_a_regression_answers_bare_values(client: httpx.Client) -> None:
    """Values come as numbers, and probabilities of such a model are refused."""
    headers = {"x-penstock-model": "amount"}
    body: dict[str, Any] = {"inputs": [1.0, 2.5]}
    expected = [one["value"] for one in own_answers(client, "amount", [{"x": 1.0}, {"x": 2.5}])]
    assert {"predictions": expected} == client.post("/invocations", json=body, headers=headers).json()
    body["params"] = {"predict_method": "predict_proba"}
    assert 400 == client.post("/invocations", json=body, headers=headers).status_code


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"inputs": [["a", 1, 1, 1]]}', {}, 400),
        (b'{"inputs": [[1, 1, 1, 1]], "instances": []}', {}, 400),
        (b"{", {}, 400),
        (b"sepal_length\n1\n", {"content-type": "text/csv"}, 400),
        (b'{"inputs": [[1, 1, 1, 1]]}', {"content-type": "application/x-parquet"}, 415),
        (b'{"inputs": [[1, 1, 1, 1]]}', {"x-penstock-model": "half"}, 404),
    ],
)
def test_refusals_over_http(client: httpx.Client, content: bytes, headers: dict[str, str], status: int) -> None:
    """Each refusal is `{"error_code", "message"}`; wrong input of any kind is 400."""
    answer = client.post("/invocations", content=content, headers={"content-type": "application/json", **headers})
    body = answer.json()
    assert (status, ["error_code", "message"]) == (answer.status_code, list(body))
    assert ("RESOURCE_DOES_NOT_EXIST" if status == 404 else "BAD_REQUEST") == body["error_code"]


def test_ping_version_and_health(client: httpx.Client) -> None:
    """What MLflow's client and SageMaker ask before they send rows."""
    assert [200, 200, 200] == [client.get(path).status_code for path in ("/ping", "/version", "/health")]
    assert client.get("/version").text == client.get("/v1/info").json()["penstock"]
    assert msgspec.json.decode(client.get("/ping").content) == {"status": "ok"}
