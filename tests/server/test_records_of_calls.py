"""Every reply is in the log: the record of each outcome, field by field, as a real server wrote it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from penstock.audit import Masked, Record, verify
from penstock.errors import Violation
from running import Running, read_answer, request, running, segments

CHURN = "/v1/models/churn/predict"


class Sent(msgspec.Struct):
    """A reply, its predictions as bytes."""

    predictions: msgspec.Raw
    request_id: str


class Kept(msgspec.Struct):
    """A record's line, its outputs as bytes."""

    request_id: str = ""
    outputs: msgspec.Raw = msgspec.Raw(b"")


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("records")
    with running(list(bundles.values()), home, "--default-model", "churn", server__max_rows=50) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client(headers={"content-type": "application/json", "x-request-id": "mine"}) as http:
        yield http


@pytest.fixture(scope="module", autouse=True)
def _the_chain_verifies(server: Running) -> Iterator[None]:
    """After all tests of this module the segment is whole and holds what its commits say."""
    yield
    server.stop()
    [path] = segments(server.home)
    report = verify(path)
    assert (None, 0, 0) == (report.broken, report.torn_bytes, report.dropped)
    assert report.records == len(server.records())


def told(record: Record) -> dict[str, Any]:
    """The record's fields that differ from the default, without times and ids."""
    plain = msgspec.structs.asdict(record)
    defaults = {field.name: field.default for field in msgspec.structs.fields(Record)}
    left_out = {"seq", "request_id", "at", "queue_ms", "run_ms", "total_ms", "commitment", "salt"}
    return {name: value for name, value in plain.items() if name not in left_out and value != defaults[name]}


def test_a_prediction(server: Running, client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """The record of an answer has all its fields; the outputs are the reply's predictions byte for byte."""
    before = datetime.now(UTC)
    answer = client.post(CHURN, json={"instances": [churn_row, churn_row], "key": "customer-17"})
    body = answer.json()
    record = server.record(body["request_id"])
    final = {**churn_row, "income": Masked("income"), "device": Masked("device")}
    assert {
        "kind": "prediction",
        "client_id": server.pseudonyms.of_client_id("mine"),
        "model": "churn",
        "version": 1,
        "digest": body["digest"],
        "protocol": "penstock",
        "key": server.pseudonyms.of_key("customer-17"),
        "input": [final, final],
        "outputs": body["predictions"],
        "rows": 2,
        "batch_rows": 2,
    } == told(record)
    assert before - timedelta(milliseconds=1) <= record.at <= datetime.now(UTC)
    assert 0 < record.run_ms <= record.total_ms == body["latency_ms"]
    assert 0 <= record.queue_ms <= record.total_ms
    sent = msgspec.json.decode(answer.content, type=Sent)
    lines = [msgspec.json.decode(line, type=Kept) for line in segments(server.home)[0].read_bytes().splitlines()]
    [kept] = [line for line in lines if line.request_id == sent.request_id]
    assert bytes(sent.predictions) == bytes(kept.outputs)


def test_what_was_sent_is_kept_where_it_differs(
    server: Running, client: httpx.Client, churn_row: dict[str, Any]
) -> None:
    """Where a default or a mapping changed a row the record has both, what was sent and what the model got."""
    del churn_row["support_calls"]
    sent = {**churn_row, "region": "atlantis"}
    final = {**sent, "region": "islands", "support_calls": 0, "income": Masked("income"), "device": Masked("device")}
    raw = {**sent, "income": Masked("income"), "device": Masked("device")}
    columns = {name: [value, value] for name, value in sent.items()}
    calls: list[tuple[str, object, int]] = [
        (CHURN, {"instances": [sent]}, 1),
        (CHURN, {"columns": columns}, 2),
        ("/predict", {"features": sent}, 1),
        ("/batch_predict", {"features": [sent, sent]}, 2),
    ]
    for path, body, rows in calls:
        answer = client.post(path, json=body)
        assert 200 == answer.status_code
        record = server.record(answer.json()["request_id"])
        assert ([final] * rows, [raw] * rows, 0) == (record.input, record.raw, record.undeclared)


def test_a_positional_row_is_kept_as_it_came(server: Running, client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """A row that came as a list is kept as a list, masked by position."""
    values = list({**churn_row, "region": "atlantis"}.values())
    answer = client.post("/predict", json={"features": values})
    record = server.record(answer.json()["request_id"])
    masked = list({**churn_row, "region": "atlantis", "income": Masked("income"), "device": Masked("device")}.values())
    assert [masked] == record.raw


def test_rows_that_break_the_schema(server: Running, client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """A 422 keeps its violations, with personal values masked, and of the body length and hash only."""
    body = msgspec.json.encode({"instances": [{**churn_row, "age": "S3CRET-1", "income": "S3CRET-2"}]})
    answer = client.post(CHURN, content=body)
    error = answer.json()["error"]
    record = server.record(error["request_id"])
    assert {
        "kind": "refusal",
        "code": "schema_violation",
        "client_id": server.pseudonyms.of_client_id("mine"),
        "model": "churn",
        "version": 1,
        "digest": record.digest,
        "protocol": "penstock",
        "violations": tuple(Violation(**each) for each in error["violations"]),
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    } == told(record)
    assert b"S3CRET-2" not in segments(server.home)[0].read_bytes()


@pytest.mark.parametrize("path", [CHURN, "/predict"])
def test_an_unreadable_body(server: Running, client: httpx.Client, path: str) -> None:
    """An unreadable body is kept as length and hash of the whole of it."""
    body = b'{"features": {"income": "S3CRET-3\xff"}}'
    answer = client.post(path, content=body)
    record = server.record(answer.json()["error"]["request_id"])
    assert ("refusal", "unreadable", len(body), hashlib.sha256(body).hexdigest(), None) == (
        record.kind,
        record.code,
        record.body_bytes,
        record.body_sha256,
        record.input,
    )
    assert b"S3CRET-3" not in segments(server.home)[0].read_bytes()


def test_refusals_of_short_names_hash_the_whole_body(server: Running, client: httpx.Client) -> None:
    """The hash is of the body as it came, not of the part that held the rows."""
    body = b'{"features": {"nope": 1}}'
    answer = client.post("/predict", content=body)
    record = server.record(answer.json()["error"]["request_id"])
    assert ("schema_violation", hashlib.sha256(body).hexdigest()) == (record.code, record.body_sha256)


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/v1/models/nope/predict", {}, 404, "not_found"),
        ("/v1/models/churn/versions/9/predict", {}, 404, "not_found"),
        ("/v1/models/churn/versions/99999999999999999999999/predict", {}, 404, "not_found"),
        ("/v1/models/churn/aliases/canary/predict", {}, 404, "not_found"),
        (CHURN, {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (CHURN, {"content-length": "99999999999"}, 413, "too_large"),
        (CHURN, {"x-deadline-ms": "x"}, 400, "unreadable"),
    ],
)
def test_refusals_before_the_rows(
    server: Running, client: httpx.Client, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    """A call that is refused before its rows are read has its record too, with what was asked for."""
    if "content-length" in headers:
        with server.connect() as connection:
            connection.sendall(request(path, headers={"Content-Length": headers["content-length"]}))
            by_hand = read_answer(connection)
        found, error = by_hand.status, by_hand.json["error"]
    else:
        answer = client.post(path, content=b'{"instances": []}', headers=headers)
        found, error = answer.status_code, answer.json()["error"]
    record = server.record(error["request_id"])
    assert (status, code, "refusal", code) == (found, error["code"], record.kind, record.code)
    assert path.split("/")[3] == record.model


def test_an_overdue_call(server: Running, client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """A call whose deadline passed is a failure with its rows and without outputs."""
    answer = client.post(CHURN, json={"instances": [churn_row]}, headers={"x-deadline-ms": "0"})
    record = server.record(answer.json()["error"]["request_id"])
    assert ("failure", "deadline_exceeded", 1, None) == (record.kind, record.code, record.rows, record.outputs)
    assert churn_row["age"] == record.input[0]["age"]


def test_a_model_that_overflows(server: Running, client: httpx.Client) -> None:
    """A number that is not finite is the model's failure: 500 with its code, and a record with the row."""
    answer = client.post("/v1/models/amount/predict", json={"instances": [{"x": 1.7e308}]})
    error = answer.json()["error"]
    record = server.record(error["request_id"])
    assert (500, "output_refused") == (answer.status_code, error["code"])
    assert ("failure", "output_refused", [{"x": 1.7e308}], None, 1) == (
        record.kind,
        record.code,
        record.input,
        record.outputs,
        record.rows,
    )


def test_batches_are_told(server: Running, churn_row: dict[str, Any]) -> None:
    """`batch_rows` counts the rows of the run, which may be of several callers; `rows` those of the call."""

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
            calls = [http.post(CHURN, json={"instances": [churn_row] * (1 + number % 3)}) for number in range(40)]
            return await asyncio.gather(*calls)

    answers = asyncio.run(ask())
    for number, answer in enumerate(answers):
        record = server.record(answer.json()["request_id"])
        assert 1 + number % 3 == record.rows <= record.batch_rows
        assert answer.json()["predictions"] == record.outputs
