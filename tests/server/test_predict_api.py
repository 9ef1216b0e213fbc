"""Predictions over HTTP, as wire.md says: our own API and the short names, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import penstock
from running import Running, running

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
OTHER = {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Iris twice (as two versions) and churn; the short names mean iris."""
    served = [bundles["iris"], bundles["iris"], bundles["churn"]]
    home = tmp_path_factory.mktemp("predict-api")
    with running(served, home, "--default-model", "iris") as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


@pytest.fixture(scope="module")
def expected(bundles: dict[str, Path]) -> list[dict[str, Any]]:
    """What the bundle itself answers for ROW and OTHER."""
    answers = penstock.open(bundles["iris"]).predict([ROW, OTHER])
    return [{"label": answer.label, "probabilities": answer.probabilities} for answer in answers]


def test_instances(client: httpx.Client, expected: list[dict[str, Any]]) -> None:
    """A list of rows gets a prediction each, in order, with the model, version, digest and id that made them."""
    answer = client.post("/v1/models/iris/predict", json={"instances": [ROW, OTHER]})
    body = answer.json()
    assert expected == body["predictions"]
    assert ["model", "version", "digest", "request_id", "predictions", "latency_ms"] == list(body)
    assert ("iris", 1) == (body["model"], body["version"])
    assert (200, "application/json") == (answer.status_code, answer.headers["content-type"])


def test_columns(client: httpx.Client, expected: list[dict[str, Any]]) -> None:
    """A list of values per field gets the same predictions as the rows that it makes."""
    columns = {name: [ROW[name], OTHER[name]] for name in ROW}
    body = client.post("/v1/models/iris/predict", json={"columns": columns}).json()
    assert expected == body["predictions"]


def test_key_and_params_are_taken(client: httpx.Client, expected: list[dict[str, Any]]) -> None:
    """A call may carry a key and parameters."""
    asked = {"instances": [ROW], "key": "customer-17", "params": {"a": [1, {"b": None}]}}
    assert expected[:1] == client.post("/v1/models/iris/predict", json=asked).json()["predictions"]


def test_a_version_and_an_alias_in_the_path(client: httpx.Client) -> None:
    """The path names a version by number or by alias; without either the champion answers."""
    paths = ["/v1/models/iris/versions/2", "/v1/models/iris/aliases/champion", "/v1/models/iris"]
    answers = [client.post(f"{path}/predict", json={"instances": [ROW]}).json() for path in paths]
    assert [2, 1, 1] == [answer["version"] for answer in answers]


@pytest.mark.parametrize(
    "features",
    [ROW, list(ROW.values()), [ROW], [list(ROW.values())]],
    ids=["object", "list", "objects", "lists"],
)
def test_features_in_all_forms(client: httpx.Client, expected: list[dict[str, Any]], features: Any) -> None:
    """`features` is one row or a list of rows, each an object or a list of values in the schema's order."""
    body = client.post("/predict", json={"features": features}).json()
    assert (expected[0]["label"], expected[0]["probabilities"]) == (body["prediction"], body["probabilities"])
    assert {"prediction", "probabilities", "model_version", "request_id", "latency_ms", "timestamp"} == set(body)
    assert datetime.fromisoformat(body["timestamp"]).tzinfo == UTC


@pytest.mark.parametrize("features", [[ROW, OTHER], [list(ROW.values()), list(OTHER.values())]])
def test_several_features(client: httpx.Client, expected: list[dict[str, Any]], features: Any) -> None:
    """Several rows get `predictions`, a list of what one row gets."""
    body = client.post("/predict", json={"features": features}).json()
    told = [{"prediction": one["label"], "probabilities": one["probabilities"]} for one in expected]
    assert told == body["predictions"]
    assert {"predictions", "model_version", "request_id", "latency_ms", "timestamp"} == set(body)


def test_batch_predict_answers_with_a_list(client: httpx.Client, expected: list[dict[str, Any]]) -> None:
    """`/batch_predict` answers with a list also for one row."""
    body = client.post("/batch_predict", json={"features": [ROW]}).json()
    assert [expected[0]["label"]] == [one["prediction"] for one in body["predictions"]]


@pytest.mark.parametrize(("asked", "answered"), [(None, 1), (1, 1), (2, 2), ("2", 2), ("v2", 2)])
def test_model_version(client: httpx.Client, asked: object, answered: int) -> None:
    """`model_version` names the version by number, as a text too; without it the champion answers."""
    body = client.post("/predict", json={"features": ROW, "model_version": asked}).json()
    assert answered == body["model_version"]


def test_an_unknown_model_version(client: httpx.Client) -> None:
    """A version that is not served is 404 and names those that are; one that is no number is 400."""
    unknown = client.post("/predict", json={"features": ROW, "model_version": 7})
    assert (404, "no version 7 of 'iris'; there is 1, 2") == (unknown.status_code, unknown.json()["error"]["message"])
    assert 400 == client.post("/predict", json={"features": ROW, "model_version": "latest"}).status_code


def test_the_short_names_without_a_default(bundles: dict[str, Path], tmp_path: Path) -> None:
    """With several models and no default the short names are 404 and name the models; with one model they mean it."""
    with running([bundles["iris"], bundles["amount"]], tmp_path) as server, server.client() as client:
        answers = [client.post("/predict", json={"features": ROW}), client.get("/model/version")]
    assert [404, 404] == [answer.status_code for answer in answers]
    assert all("there is amount, iris" in answer.json()["error"]["message"] for answer in answers)


def test_reply_headers(client: httpx.Client) -> None:
    """The reply's headers name the model, the version and our request id."""
    answer = client.post("/v1/models/iris/versions/2/predict", json={"instances": [ROW]})
    told = [answer.headers[f"x-penstock-{name}"] for name in ("model", "version", "request-id")]
    assert ["iris", "2", answer.json()["request_id"]] == told


def test_request_ids_are_ours_and_ordered(client: httpx.Client) -> None:
    """Request ids are version 7 UUIDs that sort in the order of the calls, whatever id the caller sends."""
    sent = {"x-request-id": "mine"}
    answers = [client.post("/v1/models/iris/predict", json={"instances": [ROW]}, headers=sent) for _ in range(3)]
    ids = [answer.json()["request_id"] for answer in answers]
    assert sorted(ids) == ids
    assert {"7"} == {one[14] for one in ids}


@pytest.mark.parametrize(("sent", "is_echoed"), [("a" * 128, True), ("a b~!", True), ("a" * 129, False), ("é", False)])
def test_x_request_id(server: Running, client: httpx.Client, sent: str, is_echoed: bool) -> None:
    """A caller's id of up to 128 printable characters is echoed and kept; any other is left out."""
    headers = {"x-request-id": sent.encode("latin-1")}
    answer = client.post("/v1/models/iris/predict", json={"instances": [ROW]}, headers=headers)  # type: ignore[arg-type]
    expected = sent if is_echoed else None
    assert (200, expected) == (answer.status_code, answer.headers.get("x-request-id"))
    kept = None if expected is None else server.pseudonyms.of_client_id(expected)
    assert kept == server.record(answer.json()["request_id"]).client_id


def test_a_refusal_echoes_the_id_too(client: httpx.Client) -> None:
    """A refused call gets the caller's id back as well."""
    answer = client.post("/v1/models/iris/predict", content=b"{", headers={"x-request-id": "r-1"})
    assert (400, "r-1") == (answer.status_code, answer.headers["x-request-id"])


@pytest.mark.parametrize(("deadline", "status"), [("60000", 200), ("0", 504), ("soon", 400), ("-1", 400), ("1.5", 400)])
def test_x_deadline_ms(client: httpx.Client, deadline: str, status: int) -> None:
    """A deadline that has passed before the model is free is 504; one that is no whole number is 400."""
    answer = client.post("/v1/models/iris/predict", json={"instances": [ROW]}, headers={"x-deadline-ms": deadline})
    assert status == answer.status_code


def test_the_python_client(server: Running, expected: list[dict[str, Any]]) -> None:
    """`penstock.Client` gets the same answers."""
    with penstock.Client(server.url) as client:
        answer = client.predict("iris", [ROW, OTHER], version=2)
    assert [one["label"] for one in expected] == [one.label for one in answer.predictions]
    assert 2 == answer.version
