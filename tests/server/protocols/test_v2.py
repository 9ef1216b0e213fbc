"""The Open Inference Protocol V2 over REST on a real server: JSON, binary tensors, metadata, refusals."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from forms_oracle import own_answers

from rows import CHURN_ROW, IRIS_ROW
from running import Running, running

DTYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT32": "<i4", "INT64": "<i8"}
ROWS = [IRIS_ROW, {**IRIS_ROW, "petal_length": 5.25, "petal_width": 2.5}]


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Iris twice (as two versions), churn and amount."""
    served = [bundles["iris"], bundles["iris"], bundles["churn"], bundles["amount"]]
    with running(served, tmp_path_factory.mktemp("v2"), "--default-model", "iris") as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


def tensors(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as JSON tensors, one per field."""
    kinds = {float: "FP64", type(None): "FP64", int: "INT64", bool: "BOOL", str: "BYTES"}
    return [
        {"name": name, "shape": [len(rows)], "datatype": kinds[type(value)], "data": [row[name] for row in rows]}
        for name, value in rows[0].items()
    ]


def outputs(answer: httpx.Response) -> dict[str, Any]:
    """The tensors of an answer by their names, each reshaped; binary ones out of what follows the JSON part."""
    assert (200, "") == (answer.status_code, answer.text if answer.is_error else "")
    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    place, found = length, {}
    for tensor in json.loads(answer.content[:length])["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        values = tensor.get("data")
        if size is not None:
            raw = answer.content[place : place + size]
            values = texts(raw) if tensor["datatype"] == "BYTES" else np.frombuffer(raw, DTYPES[tensor["datatype"]])
            place += size
        found[tensor["name"]] = np.array(values).reshape(tensor["shape"]).tolist()
    assert place == len(answer.content)
    return found


def texts(raw: bytes) -> list[str]:
    found = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        found.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return found


def binary(parts: dict[str, Any], tails: Sequence[bytes]) -> dict[str, Any]:
    """A request with binary tensors, as httpx sends it."""
    head = json.dumps(parts).encode()
    return {
        "content": b"".join([head, *tails]),
        "headers": {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"},
    }


def error(answer: httpx.Response) -> tuple[int, str]:
    """The status and the only member of an error body."""
    body = answer.json()
    assert ["error"] == list(body)
    return answer.status_code, body["error"]


def test_a_tensor_per_field(client: httpx.Client) -> None:
    """Rows as one tensor per field get the numbers of our own API, with the id and the parameters that were asked."""
    answer = client.post("/v2/models/iris/infer", json={"id": "a-17", "inputs": tensors(ROWS)})
    expected = own_answers(client, "iris", ROWS)
    body = answer.json()
    assert ("iris", "1", "a-17") == (body["model_name"], body["model_version"], body["id"])
    assert [
        {"name": "label", "datatype": "INT64", "shape": [2], "data": [row["label"] for row in expected]},
        {
            "name": "probabilities",
            "datatype": "FP64",
            "shape": [2, 3],
            "data": [value for row in expected for value in row["probabilities"].values()],
            "parameters": {"classes": "[0,1,2]"},
        },
    ] == body["outputs"]
    assert "a-17" == answer.headers["x-request-id"]


def test_fields_of_every_type(client: httpx.Client) -> None:
    """Texts, booleans, integers and floats come as BYTES, BOOL, INT64 and FP64; text classes go back as BYTES."""
    [expected] = own_answers(client, "churn", [CHURN_ROW])
    found = outputs(client.post("/v2/models/churn/infer", json={"inputs": tensors([CHURN_ROW])}))
    assert [expected["label"]] == found["label"]
    assert [list(expected["probabilities"].values())] == found["probabilities"]


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_a_binary_matrix(client: httpx.Client, datatype: str) -> None:
    """One matrix in the schema's order has the numbers that its values have once they are widened to double."""
    matrix = np.array([list(row.values()) for row in ROWS]).astype(DTYPES[datatype])
    rows = [dict(zip(IRIS_ROW, values, strict=True)) for values in matrix.astype(float).tolist()]
    tensor = {
        "name": "input-0",
        "shape": [2, 4],
        "datatype": datatype,
        "parameters": {"binary_data_size": matrix.nbytes},
    }
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    answer = client.post("/v2/models/iris/infer", **binary(asked, [matrix.tobytes()]))
    assert "application/octet-stream" == answer.headers["content-type"]
    expected = own_answers(client, "iris", rows)
    assert {
        "label": [row["label"] for row in expected],
        "probabilities": [list(row["probabilities"].values()) for row in expected],
    } == outputs(answer)


def test_outputs_that_are_asked_for(client: httpx.Client) -> None:
    """Only the named outputs come back, in that order, each in the form that was asked of it."""
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "label"}]
    asked = {"inputs": tensors(ROWS), "outputs": wanted}
    answer = client.post("/v2/models/iris/versions/2/infer", json=asked)
    assert ["probabilities", "label"] == list(outputs(answer))
    assert b'"label","datatype":"INT64","shape":[2],"data":[' in answer.content
    status, text = error(client.post("/v2/models/iris/infer", json={**asked, "outputs": [{"name": "logits"}]}))
    assert (400, True) == (status, text.startswith("Expected outputs out of label, probabilities"))


def test_binary_texts(client: httpx.Client) -> None:
    """BYTES tensors come and go each text behind its length."""
    inputs = tensors([CHURN_ROW])
    tails = []
    for tensor in inputs:
        if tensor["datatype"] == "BYTES":
            text = tensor.pop("data")[0].encode()
            tails.append(struct.pack("<I", len(text)) + text)
            tensor["parameters"] = {"binary_data_size": len(tails[-1])}
    asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    found = outputs(client.post("/v2/models/churn/infer", **binary(asked, tails)))
    assert [own_answers(client, "churn", [CHURN_ROW])[0]["label"]] == found["label"]


def test_what_breaks_the_schema(client: httpx.Client) -> None:
    """A wrong value is refused in the words of our own API; the path names its tensor."""
    refused = client.post("/v1/models/churn/predict", json={"columns": {n: [v] for n, v in _broken().items()}})
    ours = [violation["expected"] + ", got " + violation["got"] for violation in refused.json()["error"]["violations"]]
    status, text = error(client.post("/v2/models/churn/infer", json={"inputs": tensors([_broken()])}))
    assert 422 == status
    assert ours == [part.partition("Expected ")[2].partition(" - at `$.inputs.")[0] for part in text.split("; ")]


def _broken() -> dict[str, Any]:
    return {name: -1 if type(value) is int else value for name, value in CHURN_ROW.items()} | {"surplus": 1}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"shape": [3]}, 400),
        ({"shape": [1, 2]}, 400),
        ({"shape": []}, 400),
        ({"shape": [-2]}, 400),
        ({"datatype": "FP8"}, 400),
        ({"data": ["5.1", "x"]}, 400),
        ({"datatype": "BYTES", "data": ["5.1", "x"]}, 422),
        ({"datatype": "BOOL", "data": [True, False]}, 422),
        ({"data": [5.1, None]}, 422),
        ({"shape": [0], "data": []}, 422),
        ({"name": "sepal_girth"}, 422),
        ({"name": "sepal_width"}, 400),
        ({"parameters": {"shared_memory_region": "r"}}, 400),
        ({"parameters": {"binary_data_size": 16}}, 400),
    ],
)
def test_damaged_tensors(client: httpx.Client, changes: dict[str, Any], status: int) -> None:
    """A tensor that contradicts itself is a 400, one that breaks the schema a 422, with the protocol's error body."""
    inputs = tensors(ROWS)
    inputs[0] |= changes
    assert status == error(client.post("/v2/models/iris/infer", json={"inputs": inputs}))[0]


@pytest.mark.parametrize("length", ["x", "999999", "-1", "10"])
def test_a_wrong_length_of_the_json_part(client: httpx.Client, length: str) -> None:
    """A header that does not say where the JSON part ends is a 400."""
    headers = {"Inference-Header-Content-Length": length}
    answer = client.post("/v2/models/iris/infer", json={"inputs": tensors(ROWS)}, headers=headers)
    assert 400 == error(answer)[0]


def test_missing_values_and_defaults(client: httpx.Client) -> None:
    """NaN is a missing value where a float may be null, and a field with a default may be left out."""
    without = {name: value for name, value in CHURN_ROW.items() if name != "support_calls"}
    inputs = [tensor for tensor in tensors([without]) if tensor["name"] != "satisfaction"]
    inputs.append({"name": "satisfaction", "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}})
    answer = client.post("/v2/models/churn/infer", **binary({"inputs": inputs}, [struct.pack("<f", float("nan"))]))
    assert [own_answers(client, "churn", [without])[0]["label"]] == outputs(answer)["label"]


def test_nan_where_nothing_may_be_missing(client: httpx.Client) -> None:
    """NaN in a field that is not nullable is refused."""
    matrix = np.full((1, 4), np.nan, "<f8")
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP64", "parameters": {"binary_data_size": 32}}
    answer = client.post("/v2/models/iris/infer", **binary({"inputs": [tensor]}, [matrix.tobytes()]))
    assert 422 == error(answer)[0]


def test_metadata(client: httpx.Client) -> None:
    """The server tells of itself and of each model as tensors."""
    assert "penstock" == client.get("/v2").json()["name"]
    body = client.get("/v2/models/iris").json()
    assert ("iris", ["1", "2"], "penstock_onnx") == (body["name"], body["versions"], body["platform"])
    assert {"name": "sepal_length", "datatype": "FP64", "shape": [-1]} == body["inputs"][0]
    assert [("label", "INT64", [-1]), ("probabilities", "FP64", [-1, 3])] == [
        (output["name"], output["datatype"], output["shape"]) for output in body["outputs"]
    ]
    assert body == client.get("/v2/models/iris/versions/2").json()


def test_readiness(client: httpx.Client) -> None:
    """Server and models say that they answer; an unknown model or version is a 404 in the protocol's words."""
    assert {"live": True} == client.get("/v2/health/live").json()
    assert {"ready": True} == client.get("/v2/health/ready").json()
    assert {"ready": True, "name": "iris"} == client.get("/v2/models/iris/ready").json()
    for path in ("/v2/models/iris/versions/9/ready", "/v2/models/nope", "/v2/models/iris/versions/x", "/v2/nope"):
        assert 404 == error(client.get(path))[0]
    index = client.post("/v2/repository/index", json={"ready": True}).json()
    assert {"name": "iris", "version": "2", "state": "READY", "reason": ""} in index


def test_the_record(client: httpx.Client, server: Running) -> None:
    """A call is recorded under the protocol's name with the caller's id and the checked rows."""
    answer = client.post("/v2/models/iris/infer", json={"id": "kept", "inputs": tensors(ROWS)})
    record = server.record(answer.headers["x-penstock-request-id"])
    kept = server.pseudonyms.of_client_id("kept")
    assert ("v2", kept, 2, "ok") == (record.protocol, record.client_id, record.rows, record.code)


def test_a_timeout_of_the_caller(client: httpx.Client) -> None:
    """Triton's `timeout` parameter is a deadline."""
    asked = {"inputs": tensors(ROWS), "parameters": {"timeout": 1}}
    assert 504 == error(client.post("/v2/models/iris/infer", json=asked))[0]


def test_a_body_that_begins_with_nul(client: httpx.Client) -> None:
    """A NUL is no JSON, and not taken for the mark that parts JSON from bytes."""
    answer = client.post("/v2/models/iris/infer", content=b"\x0000000000{}")
    assert 400 == answer.status_code
    assert "JSON is malformed" in answer.json()["error"]


@pytest.mark.parametrize("body", [b"\0", b"\0zzzzzzzz{}", b"\0" + b"%08x" % 2 + b"{}"])
def test_a_body_that_begins_with_a_nul(client: httpx.Client, body: bytes) -> None:
    """What looks like our own mark of binary tensors is no JSON."""
    assert 400 == error(client.post("/v2/models/iris/infer", content=body))[0]
