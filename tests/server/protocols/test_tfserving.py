"""TensorFlow Serving's REST API: its forms are read as our own JSON is, and answered as its documentation shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from forms_oracle import MAX_ROWS, damaged, meant, outcome, own_answers, own_lists_outcome, own_outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import SchemaViolation, TooLarge, Unreadable
from penstock.schema import Check, Field, Schema
from penstock.server.protocols import Own, TfServing
from penstock.testing.strategies import list_texts_near, row_texts_near, schemas, table_texts_near
from rows import CHURN_ROW, IRIS_ROW
from running import Running, running

AGE, PLAN = Field(name="age", type="int"), Field(name="plan", type="category", allowed=("é", "b"))
CHECK = Check(Schema(fields=(AGE, PLAN, Field(name="x", type="float", nullable=True))))
ONLY = Check(Schema(fields=(Field(name="x", type="float", nullable=True),)))
ROW = CHECK.row(3, "b", 1.5)
B64 = {"b64": base64.b64encode("é".encode()).decode()}


def read(body: Any, check: Check = CHECK) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return TfServing().reader(check, MAX_ROWS)(content)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"age": 3, "plan": "b", "x": 1.5}]},
        {"instances": [{"age": [3], "plan": ["b"], "x": [1.5]}]},
        {"instances": [[3, "b", 1.5]], "signature_name": "serving_default"},
        {"instances": [[3, {"b64": "Yg=="}, 1.5]], "signature_name": ""},
        {"inputs": {"age": [3], "plan": ["b"], "x": [1.5]}},
        {"inputs": {"age": [[3]], "plan": [{"b64": "Yg=="}], "x": [[1.5]]}},
        {"inputs": [[3, "b", 1.5]]},
    ],
)
def test_every_form(body: Any) -> None:
    """A row is the same whether it comes as object, list or columns, with tensors of one value or bytes in Base64."""
    assert [ROW] == list(read(body).rows)


def test_scalars_of_the_only_field() -> None:
    """Where a model has one input, its values may stand alone, as in the documentation's half_plus_three."""
    expected = [ONLY.row(1.0), ONLY.row(2.0), ONLY.row(None)]
    assert expected == list(read(b'{"instances": [1.0, 2, NaN]}', ONLY).rows)
    assert expected == list(read({"inputs": [[1.0], [2], [None]]}, ONLY).rows)
    assert expected == list(read({"inputs": {"x": [1, 2, None]}}, ONLY).rows)


def test_bytes_are_the_text_that_they_encode() -> None:
    """Base64 of UTF-8 is that text; the record keeps what was sent."""
    asked = read({"instances": [[3, B64, None]]})
    assert ([CHECK.row(3, "é", None)], [[3, B64, None]]) == (list(asked.rows), asked.raw)


@pytest.mark.parametrize("value", [{"b64": "/w=="}, {"b64": "Yg="}, {"b64": 7}, {"b64": "Yg==", "c": 1}, {}])
def test_bytes_that_are_no_text(value: Any) -> None:
    """What is no Base64 of UTF-8 is refused where it stands."""
    with pytest.raises(SchemaViolation) as caught:
        read({"instances": [[3, value, 1]]})
    assert ["$.instances[0][1]"] == [one.path for one in caught.value.violations]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"instances": [], "inputs": {}}, "got both"),
        ({"signature_name": "serving_default"}, "got neither"),
        ({"instances": [[3, "b", 1]], "signature_name": "other"}, "`$.signature_name`"),
        ({"instances": [[3, "b", 1]], "examples": []}, "examples"),
        ([[3, "b", 1]], "Expected `object`"),
        (b'{"instances": [[3, "b", Infinity]]}', "malformed"),
        (b'{"instances": [[3, "NaN", NaN]', "ends within"),
        (b'{"instances": [[3, "\xff", 1]]}', "not UTF-8"),
    ],
)
def test_an_unreadable_envelope(body: Any, said: str) -> None:
    """What is not the protocol's envelope is told apart from rows that break the schema."""
    with pytest.raises(Unreadable) as caught:
        read(body)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"instances": [{"age": 3.0, "plan": "b", "x": 1}]}, "$.instances[0].age"),
        ({"instances": [[3, "b"]]}, "$.instances[0]"),
        ({"instances": [3]}, "$.instances[0]"),
        ({"instances": {"age": 3}}, "$.instances"),
        ({"instances": None}, "$.instances"),
        ({"instances": []}, "$.instances"),
        ({"inputs": {"age": [3], "plan": ["b"], "x": [1, 2]}}, "$.inputs.x"),
        ({"inputs": {"age": [3], "plan": ["c"], "x": [1]}}, "$.inputs.plan[0]"),
        ({"inputs": 3}, "$.inputs"),
    ],
)
def test_rows_that_break_the_schema(body: Any, path: str) -> None:
    """The first violation is told with its path in what was sent."""
    with pytest.raises(SchemaViolation) as caught:
        read(body)
    assert path == caught.value.violations[0].path


@pytest.mark.parametrize("rows", [[[3, "b", 1]] * 11, [[3, "b", [1]]] * 11])
def test_too_many_rows(rows: list[Any]) -> None:
    """More rows than server.max_rows are refused, whichever way they are read."""
    with pytest.raises(TooLarge):
        read({"instances": rows})


def _as_sent(field: Field, value: Any) -> Any:
    if field.type in {"string", "category"} and isinstance(value, dict) and list(value) == ["b64"]:
        return base64.b64decode(value["b64"]).decode()
    return value


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_rows_of_our_own_json(data: st.DataObject) -> None:
    """For rows that nearly keep to any schema: what our own API reads is read the same, what it refuses is refused."""
    schema = data.draw(schemas(max_fields=3))
    check = Check(schema)
    face = TfServing().reader(check, MAX_ROWS)
    rows = "[" + ", ".join(data.draw(st.lists(row_texts_near(schema), max_size=3))) + "]"
    lists = "[" + ", ".join(data.draw(st.lists(list_texts_near(schema), max_size=3))) + "]"
    table = data.draw(table_texts_near(schema))
    for member in ("instances", "inputs"):
        for text, own in ((rows, own_outcome(check, rows)), (lists, own_lists_outcome(check, lists))):
            found = outcome(face, f'{{"{member}": {text}}}'.encode())
            assert found == own or (own is None and found == own_outcome(check, meant(schema, text, _as_sent)))
    own, found = own_outcome(check, table, "columns"), outcome(face, f'{{"inputs": {table}}}'.encode())
    assert own == found or own is None


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_damaged_bodies(data: st.DataObject) -> None:
    """A damaged body is refused, or read as our own API reads the same bytes."""
    broken = data.draw(damaged(b'{"instances": [{"age": 3, "plan": "b", "x": 1.5}]}'))
    own, found = outcome(Own().reader(CHECK, MAX_ROWS), broken), outcome(TfServing().reader(CHECK, MAX_ROWS), broken)
    # Only what the protocol has and ours has not may be read here and not there.
    assert found == own or (own is None and any(sign in broken for sign in (b"NaN", b"[[", b": [")))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_base64(content: bytes) -> None:
    """Bytes are the text that they encode, or refused."""
    check = Check(Schema(fields=(Field(name="t", type="string"),)))
    try:
        own = own_outcome(check, json.dumps([{"t": content.decode()}]))
    except UnicodeDecodeError:
        own = None
    sent = {"b64": base64.b64encode(content).decode()}
    for body in ({"instances": [[sent]]}, {"instances": [{"t": sent}]}, {"inputs": {"t": [sent]}}):
        assert own == outcome(TfServing().reader(check, MAX_ROWS), json.dumps(body).encode())


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    home, served = tmp_path_factory.mktemp("tfserving"), [bundles["iris"], bundles["churn"], bundles["amount"]]
    with running(served, home, server__fast_lane=request.param) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


@pytest.mark.parametrize("path", ["iris:predict", "iris/versions/1:predict", "iris/labels/champion:predict"])
def test_both_forms_give_the_numbers_of_our_own_api(client: httpx.Client, path: str) -> None:
    """Rows are answered as `predictions`, columns as `outputs`, each with the probabilities of all classes."""
    rows = [IRIS_ROW, {**IRIS_ROW, "petal_length": 4.9, "petal_width": 1.6}]
    expected = [list(one["probabilities"].values()) for one in own_answers(client, "iris", rows)]
    columns = {name: [row[name] for row in rows] for name in IRIS_ROW}
    assert {"predictions": expected} == client.post(f"/v1/models/{path}", json={"instances": rows}).json()
    assert {"outputs": expected} == client.post(f"/v1/models/{path}", json={"inputs": columns}).json()


def test_as_the_documentation_calls(client: httpx.Client) -> None:
    """`curl -d` says that JSON is a form: it is read none the less, and a regression answers bare numbers."""
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "*/*"}
    answer = client.post("/v1/models/amount:predict", content=b'{"instances": [1.0, 2.0]}', headers=headers)
    values = [one["value"] for one in own_answers(client, "amount", [{"x": 1.0}, {"x": 2.0}])]
    assert (200, {"predictions": values}) == (answer.status_code, answer.json())
    assert "application/json" == answer.headers["content-type"]


def test_refusals(client: httpx.Client) -> None:
    """Each refusal is `{"error": text}` with TensorFlow Serving's status."""
    for path, body, status in (
        ("half:predict", {"instances": [1.0]}, 404),
        ("iris/versions/9:predict", {"instances": [IRIS_ROW]}, 404),
        ("iris/labels/stable:predict", {"instances": [IRIS_ROW]}, 404),
        ("iris:predict", {"instances": [{**IRIS_ROW, "petal_width": "a"}]}, 400),
        ("iris:predict", {"instances": [IRIS_ROW], "inputs": {}}, 400),
        ("iris:classify", {"examples": [IRIS_ROW]}, 400),
        ("amount/versions/1:regress", {"examples": [{"x": 1.0}]}, 400),
        ("amount/labels/champion:regress", {"examples": [{"x": 1.0}]}, 400),
    ):
        answer = client.post(f"/v1/models/{path}", json=body)
        assert (status, ["error"], True) == (answer.status_code, list(answer.json()), bool(answer.json()["error"]))


def test_the_record(server: Running, client: httpx.Client) -> None:
    """A call is recorded with its protocol, its rows as the model got them, and what was answered."""
    sent = {**CHURN_ROW, "plan": {"b64": base64.b64encode(b"plus").decode()}}
    answer = client.post("/v1/models/churn:predict", json={"instances": [sent]})
    record = server.record(answer.headers["x-penstock-request-id"])
    [output] = own_answers(client, "churn", [CHURN_ROW])
    assert ("tfserving", "ok", "plus", 1) == (record.protocol, record.code, record.input[0]["plan"], record.rows)
    assert list(output["probabilities"].values()) == answer.json()["predictions"][0]


def test_status_of_a_version(client: httpx.Client) -> None:
    """A version or a label has the state that a client waits for."""
    state = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("versions/1", "labels/champion"):
        assert {"model_version_status": [state]} == client.get(f"/v1/models/iris/{path}").json()
    for path in ("versions/9", "versions/one", "labels/none"):
        assert 404 == client.get(f"/v1/models/iris/{path}").status_code


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/champion"])
def test_metadata(client: httpx.Client, place: str) -> None:
    """A model's signature has an input per field and one output, in the shape of TensorFlow's own."""
    body = client.get(f"/v1/models/churn{place}/metadata").json()
    assert {"name": "churn", "signature_name": "", "version": "1"} == body["model_spec"]
    signature = body["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert "tensorflow/serving/predict" == signature["method_name"]
    assert list(CHURN_ROW) == list(signature["inputs"])
    kinds = {name: tensor["dtype"] for name, tensor in signature["inputs"].items()}
    assert ("DT_INT64", "DT_DOUBLE", "DT_STRING") == (kinds["age"], kinds["income"], kinds["plan"])
    [(name, output)] = signature["outputs"].items()
    sizes = [dim["size"] for dim in output["tensor_shape"]["dim"]]
    assert ("probabilities", "DT_DOUBLE", ["-1", "2"]) == (name, output["dtype"], sizes)


def test_metadata_of_what_is_not_there(client: httpx.Client) -> None:
    """An unknown model or version has no metadata; the refusal is TensorFlow's."""
    for path in ("half/metadata", "iris/versions/7/metadata", "iris/versions/a/metadata"):
        answer = client.get(f"/v1/models/{path}")
        assert (404, ["error"]) == (answer.status_code, list(answer.json()))
