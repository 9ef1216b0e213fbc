"""What a caller can do wrong, on a real server: each is answered with its status, its code and what to do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from running import Running, read_answer, request, running

IRIS = "/v1/models/iris/predict"
CHURN = "/v1/models/churn/predict"
ROW = b'{"sepal_length":5.1,"sepal_width":3.5,"petal_length":1.4,"petal_width":0.2}'
MAX_BODY_BYTES = 2_000_000


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("bad-input")
    limits = {"server__max_body_bytes": MAX_BODY_BYTES, "server__max_rows": 50, "server__default_model": "iris"}
    served = [bundles["iris"], bundles["churn"]]
    with running(served, home, server__fast_lane=request.param, **limits) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client(headers={"content-type": "application/json"}) as http:
        yield http


@pytest.fixture(autouse=True)
def _it_goes_on(client: httpx.Client) -> Iterator[None]:
    """After whatever was sent, the next call is answered."""
    yield
    assert 200 == client.post(IRIS, content=b'{"instances":[' + ROW + b"]}").status_code


def told(answer: httpx.Response) -> tuple[int, str]:
    """Status and code; also checks that the error body has its whole form."""
    error = answer.json()["error"]
    assert error["message"]
    assert answer.headers["x-penstock-request-id"] == error["request_id"]
    return answer.status_code, error["code"]


UNREADABLE = {
    "nothing": b"",
    "a space": b" ",
    "truncated": b'{"instances":[' + ROW,
    "a raw 0xff": b'{"instances":[{"sepal_length":"\xff"}]}',
    "a raw 0xff as a key": b'{"instances":[{"\xff":1}]}',
    "half a character": b'{"instances":[{"sepal_length":"\xe4\xbd"}]}',
    "a surrogate in UTF-8": b'{"instances":[{"sepal_length":"\xed\xa0\x80"}]}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"instances":[]}'.encode("utf-16"),
    "NaN": b'{"instances":[' + ROW.replace(b"5.1", b"NaN") + b"]}",
    "Infinity": b'{"instances":[' + ROW.replace(b"5.1", b"Infinity") + b"]}",
    "-Infinity": b'{"instances":[' + ROW.replace(b"5.1", b"-Infinity") + b"]}",
    "1e400": b'{"instances":[' + ROW.replace(b"5.1", b"1e400") + b"]}",
    "deep lists": b'{"instances":' + b"[" * 100_000,
    "deep objects": b'{"params":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "deep rows": b'{"instances":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    "a comment": b'{"instances":[]}//',
    "a trailing comma": b'{"instances":[' + ROW + b",]}",
    "single quotes": b"{'instances':[]}",
    "no object": b"[]",
    "null": b"null",
    "a text": b'"instances"',
    "another envelope": b'{"rows":[' + ROW + b"]}",
    "an envelope with more": b'{"instances":[' + ROW + b'],"model":"iris"}',
    "both forms": b'{"instances":[' + ROW + b'],"columns":{}}',
    "neither form": b'{"key":"a"}',
    "null rows": b'{"instances":null}',
    "a key that is no text": b'{"instances":[' + ROW + b'],"key":1}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_body(client: httpx.Client, body: bytes) -> None:
    """What is no JSON in UTF-8, or another envelope, is 400."""
    assert (400, "unreadable") == told(client.post(IRIS, content=body))


WHERE = {
    "nothing": "(byte 0)",
    "truncated": f"(byte {len(UNREADABLE['truncated'])})",
    "a raw 0xff": "byte 31 ",
    "half a character": "byte 31 ",
    "NaN": "(byte 30)",
    "-Infinity": "(byte 31)",
    "1e400": "at `$[...][0][...]`",
    "a trailing comma": "(byte 90)",
    "another envelope": "`rows`",
    "null rows": "at `$.instances`",
    "a key that is no text": "at `$.key`",
}


@pytest.mark.parametrize(("name", "where"), WHERE.items(), ids=WHERE)
def test_an_unreadable_body_is_told_where(client: httpx.Client, name: str, where: str) -> None:
    """The message of a 400 says at which byte, or where in the body, it cannot be read."""
    answer = client.post(IRIS, content=UNREADABLE[name])
    assert (400, "unreadable") == told(answer)
    assert where in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"key":"k","features":{"sepal_length":"\xff"}}', "`$.features` is not UTF-8: byte 17 "),
        (b'{"features":[NaN]}', "JSON is malformed: invalid character (byte 13)"),
    ],
)
def test_a_byte_of_features_is_told_as_one(client: httpx.Client, body: bytes, where: str) -> None:
    """A byte is counted from the beginning of the body, or of `features`, and then the message says so."""
    assert where in client.post("/predict", content=body).json()["error"]["message"]


SHORT_UNREADABLE = {
    **{name: UNREADABLE[name] for name in ("nothing", "truncated", "a raw 0xff", "no object", "neither form")},
    "deep": b'{"features":' + b"[" * 100_000,
    "deep and closed": b'{"features":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"features":' + ROW.replace(b"5.1", b"NaN") + b"}",
    "1e400": b'{"features":' + ROW.replace(b"5.1", b"1e400") + b"}",
    "a version beyond all": b'{"features":' + ROW + b',"model_version":"' + b"9" * 5000 + b'"}',
    "a fractional version": b'{"features":' + ROW + b',"model_version":1.5}',
    "a true version": b'{"features":' + ROW + b',"model_version":true}',
}


@pytest.mark.parametrize("body", SHORT_UNREADABLE.values(), ids=SHORT_UNREADABLE)
@pytest.mark.parametrize("path", ["/predict", "/batch_predict"])
def test_an_unreadable_short_body(client: httpx.Client, path: str, body: bytes) -> None:
    """The short names refuse the same with 400."""
    assert (400, "unreadable") == told(client.post(path, content=body))


def violations(answer: httpx.Response) -> list[tuple[str, str, str]]:
    """What a 422 says, in order."""
    assert (422, "schema_violation") == told(answer)
    return [(each["path"], each["expected"], each["got"]) for each in answer.json()["error"]["violations"]]


def test_every_violation_is_told(client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """All places of all rows that break the schema are named with path, what was expected and what came."""
    wrong = {**churn_row, "age": "41", "plan": "gold", "tenure_months": None, "extra": 1}
    del wrong["usage_gb"]
    found = violations(client.post(CHURN, json={"instances": [churn_row, wrong, {**churn_row, "monthly_fee": True}]}))
    assert [
        ("$.instances[1].age", '"41"'),
        ("$.instances[1].extra", ""),
        ("$.instances[1].plan", '"gold"'),
        ("$.instances[1].tenure_months", "null"),
        ("$.instances[1].usage_gb", ""),
        ("$.instances[2].monthly_fee", "true"),
    ] == sorted((path, got if path.rpartition(".")[2] not in ("extra", "usage_gb") else "") for path, _, got in found)


def test_personal_values_are_masked(client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """A violation of a field with a pii class, and of a field that the schema does not know, never shows the value."""
    wrong = {**churn_row, "income": "S3CRET", "device": "S3CRET", "S3": "S3CRET"}
    answer = client.post(CHURN, json={"instances": [wrong]})
    assert {"$.instances[0].income", "$.instances[0].device", "$.instances[0].S3"} == {
        path for path, _, _ in violations(answer)
    }
    assert "S3CRET" not in answer.text


def test_columns_are_checked(client: httpx.Client) -> None:
    """Columns of different lengths, of another type or missing are 422 with the column's path."""
    columns: dict[str, Any] = {name: [1.0, 2.0] for name in json.loads(ROW)}
    short = violations(client.post(IRIS, json={"columns": {**columns, "petal_width": [1.0]}}))
    assert ["$.columns.petal_width"] == [path for path, _, _ in short]
    text = violations(client.post(IRIS, json={"columns": {**columns, "petal_width": [1.0, "2"]}}))
    assert ["$.columns.petal_width[1]"] == [path for path, _, _ in text]
    assert 422 == client.post(IRIS, json={"columns": {"petal_width": [1.0]}}).status_code


@pytest.mark.parametrize(
    ("features", "path"),
    [
        ([5.1, 3.5, 1.4], "$.features"),
        ([5.1, 3.5, 1.4, "0.2"], "$.features[3]"),
        ([[5.1, 3.5, 1.4, 0.2], [5.1, 3.5, 1.4, None]], "$.features[1][3]"),
        ({"sepal_length": 5.1}, "$.features.petal_length"),
        ("5.1", "$.features"),
        (5.1, "$.features"),
        (None, "$.features"),
    ],
)
def test_features_are_checked(client: httpx.Client, features: object, path: str) -> None:
    """`features` of a wrong form or with wrong values are 400 or 422, the latter with the path."""
    answer = client.post("/predict", json={"features": features})
    if isinstance(features, dict | list):
        assert path in [found for found, _, _ in violations(answer)]
    else:
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    ("path", "body"), [(IRIS, b'{"instances":[]}'), (IRIS, b'{"columns":{}}'), ("/predict", b'{"features":[]}')]
)
def test_no_rows(client: httpx.Client, path: str, body: bytes) -> None:
    """A call without rows is 422."""
    assert 422 == client.post(path, content=body).status_code


def test_too_many_rows(client: httpx.Client) -> None:
    """More rows than `server.max_rows` are 413, in every form; as many are answered."""
    rows = [json.loads(ROW)] * 51
    columns = {name: [value] * 51 for name, value in rows[0].items()}
    for path, body in [(IRIS, {"instances": rows}), (IRIS, {"columns": columns}), ("/predict", {"features": rows})]:
        answer = client.post(path, json=body)
        assert (413, "too_large") == told(answer)
        assert "server.max_rows is 50" in answer.json()["error"]["message"]
    assert 200 == client.post(IRIS, json={"instances": rows[:50]}).status_code


def test_an_integer_beyond_a_double(client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """10**400 where a number is expected is the caller's error, with the path where the field is known."""
    body = json.dumps({"instances": [{**churn_row, "age": 0}]}).replace('"age": 0', '"age": 1' + "0" * 400)
    assert client.post(CHURN, content=body).status_code in (400, 422)
    found = violations(client.post(CHURN, json={"instances": [{**churn_row, "age": 2**60}]}))
    assert ["$.instances[0].age"] == [path for path, _, _ in found]


def test_a_key_that_stands_twice(server: Running, client: httpx.Client) -> None:
    """Of a key that stands twice the last value counts, and the record holds what was used."""
    body = b'{"instances":[' + ROW.replace(b"{", b'{"sepal_length":9.9,', 1) + b"]}"
    answer = client.post(IRIS, content=body)
    assert 200 == answer.status_code
    assert 5.1 == server.record(answer.json()["request_id"]).input[0]["sepal_length"]


def test_a_huge_number_of_fields(client: httpx.Client) -> None:
    """A row with 100,000 unknown fields is 422, and at most 100 violations are told."""
    row = {**json.loads(ROW), **{f"f{number}": number for number in range(100_000)}}
    answer = client.post(IRIS, json={"instances": [row]})
    assert 100 == len(violations(answer))
    assert len(answer.content) < 50_000


def test_a_long_text(client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """A text of a megabyte in a category is 422, and it is not sent back whole."""
    answer = client.post(CHURN, json={"instances": [{**churn_row, "plan": "x" * 1_000_000}]})
    assert ["$.instances[0].plan"] == [path for path, _, _ in violations(answer)]
    assert len(answer.content) < 2000


def test_an_unknown_model_names_the_known(client: httpx.Client) -> None:
    """404 for a model, a version or an alias that is not served names what there is."""
    paths = ["/v1/models/nope", "/v1/models/iris/versions/9", "/v1/models/iris/aliases/canary"]
    answers = [client.post(f"{path}/predict", json={"instances": []}) for path in paths]
    assert [(404, "not_found")] * 3 == [told(answer) for answer in answers]
    messages = [answer.json()["error"]["message"] for answer in answers]
    assert [
        "no model 'nope'; there is churn, iris",
        "no version 9 of 'iris'; there is 1",
        "no alias 'canary' of 'iris'; there is champion",
    ] == messages


@pytest.mark.parametrize("version", ["x", "-1", "1.0", "9" * 60, "%31%00", "١"])
def test_odd_versions_in_the_path(client: httpx.Client, version: str) -> None:
    """A version in the path that is no number is 400, a number that is not served 404."""
    assert client.post(f"/v1/models/iris/versions/{version}/predict", json={}).status_code in (400, 404)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/models/", "/predict/", "/v1/models/a/b/predict", "/../etc/passwd"])
def test_an_unknown_path(client: httpx.Client, path: str) -> None:
    """404 for a path that does not exist says where to look."""
    answer = client.get(path)
    assert (404, "no such path; GET /docs shows what there is") == (
        answer.status_code,
        answer.json()["error"]["message"],
    )


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", IRIS, "POST"),
        ("DELETE", "/predict", "POST"),
        ("OPTIONS", "/predict", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/v1/models/iris", "GET, HEAD"),
    ],
)
def test_another_method(client: httpx.Client, method: str, path: str, allow: str) -> None:
    """A known path asked in another way is 405, and Allow says how."""
    answer = client.request(method, path)
    assert (405, allow) == (answer.status_code, answer.headers["allow"])
    assert "method_not_allowed" == answer.json()["error"]["code"]


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp"]
)
def test_another_content_type(client: httpx.Client, media: str) -> None:
    """A content type that is not JSON is 415 and names the right one."""
    answer = client.post(IRIS, content=b"{}", headers={"content-type": media})
    assert (415, "unsupported_media_type") == told(answer)
    assert "send the header Content-Type: application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"])
def test_content_types_that_are_json(client: httpx.Client, media: str) -> None:
    """JSON is JSON in any case and with parameters."""
    body = b'{"instances":[' + ROW + b"]}"
    assert 200 == client.post(IRIS, content=body, headers={"content-type": media}).status_code


def test_a_packed_body(client: httpx.Client) -> None:
    """A body is unpacked; one that is damaged is 400, one that is packed otherwise 415, not garbage."""
    body, packed = b'{"instances":[' + ROW + b"]}", {"content-encoding": "gzip"}
    assert 200 == client.post(IRIS, content=gzip.compress(body), headers=packed).status_code
    assert (400, "unreadable") == told(client.post(IRIS, content=b"\x1f\x8b", headers=packed))
    assert (400, "unreadable") == told(client.post(IRIS, content=body, headers=packed))
    answer = client.post(IRIS, content=body, headers={"content-encoding": "br"})
    assert (415, "unsupported_media_type") == told(answer)


def test_who_packs_gets_packed(client: httpx.Client) -> None:
    """A long answer to a packed request is packed as the caller accepts it; others are not."""
    body = b'{"instances":[' + b",".join([ROW] * 50) + b"]}"
    plain = client.post(IRIS, content=body)
    packed = client.post(IRIS, content=gzip.compress(body), headers={"content-encoding": "gzip"})
    assert plain.json()["predictions"] == packed.json()["predictions"]
    assert (None, "gzip") == (plain.headers.get("content-encoding"), packed.headers.get("content-encoding"))


def test_an_answer_that_is_not_accepted(client: httpx.Client) -> None:
    """An Accept that excludes JSON is 406, in JSON all the same."""
    answer = client.post(IRIS, content=b'{"instances":[' + ROW + b"]}", headers={"accept": "text/html"})
    assert (406, "not_acceptable") == told(answer)


def test_a_body_that_is_too_large_by_its_length(server: Running) -> None:
    """A Content-Length above the limit is 413 before any of the body is sent, and the connection ends."""
    with server.connect() as connection:
        connection.sendall(request(IRIS, headers={"Content-Length": str(MAX_BODY_BYTES + 1)}))
        answer = read_answer(connection)
        assert b"" == connection.recv(1)
    assert (413, "close", "too_large") == (answer.status, answer.headers["connection"], answer.json["error"]["code"])


def test_a_body_that_is_too_large_in_chunks(server: Running) -> None:
    """A chunked body above the limit is 413 as soon as it is known."""
    chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
    head = f"POST {IRIS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with server.connect() as connection:
        connection.sendall(head + chunk * 21)
        answer = read_answer(connection)
    assert (413, "too_large") == (answer.status, answer.json["error"]["code"])


def test_an_ordinary_client_sees_the_413(client: httpx.Client) -> None:
    """A client that sends a large body without waiting gets the 413, not a broken pipe."""
    assert (413, "too_large") == told(client.post(IRIS, content=b" " * (10 * MAX_BODY_BYTES)))


def test_a_body_of_the_largest_size(client: httpx.Client) -> None:
    """A body of exactly the limit is read."""
    body = b'{"instances":[' + ROW + b"]}"
    assert 200 == client.post(IRIS, content=body.ljust(MAX_BODY_BYTES)).status_code
    assert 413 == client.post(IRIS, content=body.ljust(MAX_BODY_BYTES + 1)).status_code


def test_every_refusal_is_recorded(server: Running, client: httpx.Client) -> None:
    """A refused call has one record, under the id of its reply."""
    answer = client.post(IRIS, content=b"{")
    record = server.record(answer.json()["error"]["request_id"])
    assert ("refusal", "unreadable", 1) == (record.kind, record.code, record.body_bytes)
