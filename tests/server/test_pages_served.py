"""What the data port answers besides predictions, on a real server: health, models, info, the API document, CORS."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.parser import text_string_to_metric_families
from referencing import Registry, Resource

import penstock
from running import Running, running

SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All four models, with CORS for one origin."""
    home = tmp_path_factory.mktemp("pages")
    with running(list(bundles.values()), home, server__cors_origins=SHOP, audit__durability="strict") as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


def test_health(client: httpx.Client) -> None:
    """`/health` says that a model is loaded, with the time."""
    body = client.get("/health").json()
    assert ("ok", True) == (body["status"], body["model_loaded"])
    assert datetime.fromisoformat(body["timestamp"]).tzinfo == UTC


def test_live_and_ready(client: httpx.Client) -> None:
    """A serving process is live, and ready with the aliases that it serves."""
    assert {"status": "live"} == client.get("/health/live").json()
    served = {name: {"champion": 1} for name in ("amount", "churn", "growth", "iris")}
    assert {"status": "ready", "models": served} == client.get("/health/ready").json()


def test_models(client: httpx.Client, bundles: dict[str, Path]) -> None:
    """`/v1/models` lists each model with its versions, digests and flavours."""
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    digests = {name: penstock.Bundle.open(path).manifest.content_digest for name, path in bundles.items()}
    assert digests == {name: model["versions"][0]["digest"] for name, model in models.items()}
    assert {"amount": "onnx", "churn": "onnx", "growth": "native", "iris": "onnx"} == {
        name: model["versions"][0]["flavour"] for name, model in models.items()
    }


def test_one_model(client: httpx.Client) -> None:
    """`/v1/models/{model}` is one body for us and TensorFlow Serving, with the schema of a row."""
    body = client.get("/v1/models/iris").json()
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    members = {"name", "ready", "model_version_status", "versions", "aliases", "options", "failures", "schema"}
    assert members == set(body)
    assert ([state], {"champion": 1}, True) == (body["model_version_status"], body["aliases"], body["ready"])
    assert ["sepal_length", "sepal_width", "petal_length", "petal_width"] == body["schema"]["required"]


def test_an_unknown_model(client: httpx.Client) -> None:
    """An unknown model is 404 and names the known ones."""
    answer = client.get("/v1/models/nope")
    assert (404, "no model 'nope'; there is amount, churn, growth, iris") == (
        answer.status_code,
        answer.json()["error"]["message"],
    )


def test_info(client: httpx.Client) -> None:
    """`/v1/info` tells the build, how durable a record is, and unsafe settings."""
    body = client.get("/v1/info").json()
    assert metadata.version("penstock") == body["penstock"]
    assert "strict" == body["audit"]["durability"]
    assert "a call whose record cannot be written is not answered" in body["audit"]["bound"]
    assert body["insecure"] is False
    assert {"on": False, "insecure": False} == body["control"]
    assert {"on": False, "allow_unsafe": False} == body["watch"]


def test_head_of_every_page(client: httpx.Client) -> None:
    """HEAD of a page has the status and type of GET and no body."""
    for path in ("/health", "/health/ready", "/v1/models", "/v1/info", "/openapi.json", "/docs", "/metrics"):
        asked, got = client.head(path), client.get(path)
        assert (200, b"", got.headers["content-type"]) == (
            asked.status_code,
            asked.content,
            asked.headers["content-type"],
        )


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_the_document_is_openapi(document: dict[str, Any]) -> None:
    """The served document is valid OpenAPI 3.1."""
    assert [] == [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]


@pytest.mark.parametrize("name", ["amount", "churn", "growth", "iris"])
def test_a_typed_operation_that_holds(client: httpx.Client, document: dict[str, Any], name: str) -> None:
    """Each model's example is really accepted, and the answer is what the document says."""
    path = f"/v1/models/{name}/predict"
    operation = document["paths"][path]["post"]
    answer = client.post(path, json=operation["requestBody"]["content"]["application/json"]["example"])
    assert 200 == answer.status_code
    registry: Registry[Any] = Registry().with_resource("urn:d", Resource.opaque(document))
    reference = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    whole = {"$ref": f"urn:d{reference}", "$schema": "https://json-schema.org/draft/2020-12/schema"}
    assert [] == [error.message for error in OAS31Validator(whole, registry=registry).iter_errors(answer.json())]


def test_cors_for_a_named_origin(client: httpx.Client) -> None:
    """A page of a named origin may call: its preflight and its calls get its origin back."""
    headers = {"origin": SHOP, "access-control-request-method": "POST"}
    preflight = client.options("/v1/models/iris/predict", headers=headers)
    assert (204, SHOP) == (preflight.status_code, preflight.headers["access-control-allow-origin"])
    assert "content-type" in preflight.headers["access-control-allow-headers"]
    assert "content-length" not in preflight.headers
    for answer in (
        client.post("/v1/models/iris/predict", content=b"{", headers=headers),
        client.get("/x", headers=headers),
    ):
        assert (SHOP, "Origin") == (answer.headers["access-control-allow-origin"], answer.headers["vary"])


def test_no_cors_for_others(client: httpx.Client) -> None:
    """A page of another origin, or of none, gets no CORS headers, and its preflight is 405."""
    for headers in ({"origin": "https://shop.example.evil"}, {"origin": "null"}, {}):
        answer = client.options("/predict", headers=headers)
        assert (405, []) == (
            answer.status_code,
            [name for name in answer.headers if name.startswith("access-control")],
        )


def test_cors_is_off_by_default_and_metrics_count(
    bundles: dict[str, Path], tmp_path: Path, iris_row: dict[str, Any]
) -> None:
    """Without the setting no origin is let in; `/metrics` counts exactly the calls that were sent, by outcome."""
    with running([bundles["iris"], bundles["iris"]], tmp_path) as server, server.client() as client:
        assert 405 == client.options("/predict", headers={"origin": SHOP}).status_code
        for _ in range(5):
            client.post("/v1/models/iris/predict", json={"instances": [iris_row] * 3}, headers={"origin": SHOP})
        client.post("/v1/models/iris/versions/2/predict", json={"instances": [iris_row]})
        for _ in range(2):
            client.post("/predict", json={"features": iris_row})
        client.post("/predict", json={"features": {}})
        client.post("/v1/models/iris/predict", content=b"{")
        client.post("/v1/models/nope/predict", json={})
        client.get("/health")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family.samples for family in text_string_to_metric_families(answer.text)}
    labels = ("model", "version", "protocol", "status", "code")
    counted = {
        tuple(sample.labels[label] for label in labels): sample.value for sample in families["model_requests"]
        if sample.name.endswith("_total")
    }  # fmt: skip
    assert {
        ("iris", "1", "penstock", "success", "ok"): 5,
        ("iris", "2", "penstock", "success", "ok"): 1,
        ("iris", "1", "short", "success", "ok"): 2,
        ("iris", "1", "short", "rejected", "schema_violation"): 1,
        ("iris", "1", "penstock", "rejected", "unreadable"): 1,
        ("", "", "penstock", "rejected", "not_found"): 1,
    } == counted
    timed = {
        (sample.labels["version"], sample.labels["stage"]): sample.value
        for sample in families["model_request_duration_seconds"]
        if sample.name.endswith("_count")
    }
    assert {
        (version, stage): count for version, count in (("1", 7), ("2", 1)) for stage in ("total", "queue", "run")
    } == timed
    rows = [sample.value for sample in families["model_batch_rows"] if sample.name.endswith("_sum")]
    assert 5 * 3 + 2 + 1 == sum(rows)
    assert [11] == [sample.value for sample in families["penstock_audit_records"]]
    assert {("iris", "1"), ("iris", "2")} == {
        (sample.labels["model"], sample.labels["version"]) for sample in families["model_loaded"] if sample.value == 1
    }
