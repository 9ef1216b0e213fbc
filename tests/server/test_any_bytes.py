"""Arbitrary bytes never end in a 500: the application in this process, with real models and a real log."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.app import own_metrics
from penstock.audit import AuditLog, Record, read_record
from penstock.routing import RoutingTable
from penstock.runtime import Host, open_model
from penstock.server.feedback import Feedback
from penstock.server.http.asgi import HttpApp
from penstock.server.http.cors import Cors
from penstock.server.http.pages import Pages
from penstock.server.http.predictions import Predictions
from penstock.server.http.routes import match
from penstock.server.measures import Measures
from penstock.server.predict import Predict
from penstock.server.witness import Witness
from penstock.telemetry import Registry
from rows import CHURN_ROW

PREDICT = {"predict", "short", "short_batch"}
SAFE_HEADER = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")


class Asked(msgspec.Struct):
    """One request; `pieces` are the messages in which its body comes."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    pieces: list[bytes]


class Told(msgspec.Struct):
    """What came back, and the records that were written meanwhile."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    records: list[Record]


Ask = Callable[[Asked], Told]


class Collecting(Witness):
    """Keeps the bugs that it is told of."""

    def __init__(self, bugs: list[Exception]) -> None:
        super().__init__(slow_ms=0)
        self._bugs = bugs

    def bug(self, request_id: str, bug: Exception) -> None:
        self._bugs.append(bug)


@pytest.fixture(scope="module")
def ask(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Puts a request to the application and waits for its answer."""
    registry, bugs = Registry(), []
    measures = Measures(registry)
    models = [open_model(bundles["iris"]), open_model(bundles["churn"])]
    host = Host(models)
    host.swap(models, RoutingTable(host.table.models, "churn"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        log = AuditLog(tmp_path_factory.mktemp("fuzz") / "audit", registry=registry)
        log.open(runner.get_loop())
        predict = Predict(host, log, measures=measures, witness=Collecting(bugs), max_rows=20)
        pages = Pages(host, own_metrics(registry, 0), info={})
        app = HttpApp(
            Predictions(predict, max_body_bytes=5000, deadline_ms=30_000),
            pages,
            Cors(("https://a.example",)),
            Feedback(host, log, witness=Collecting(bugs), measures=measures, intake=predict.intake),
        )
        with log.path.open("rb") as segment:

            def put(asked: Asked) -> Told:
                told = runner.run(_answered(app, asked))
                assert [] == bugs
                lines = segment.read().splitlines()
                told.records = [read_record(line) for line in lines if line.startswith(b'{"seq"')]
                return told

            yield put
        log.close()
        host.close()


async def _answered(app: HttpApp, asked: Asked) -> Told:
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(asked.pieces) - 1}
        for number, piece in enumerate(asked.pieces)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": asked.method, "path": asked.path, "headers": asked.headers}, receive, send)
    start, body = sent
    assert all(SAFE_HEADER.fullmatch(value) for _, value in start["headers"])
    return Told(start["status"], dict(start["headers"]), body["body"], [])


def check(ask: Ask, asked: Asked) -> Told:
    """Never a 500; a call for a prediction has exactly one record, under the id of its reply."""
    told = ask(asked)
    assert told.status in {200, 204, 400, 404, 405, 406, 413, 415, 422, 504}
    found = match(asked.method, asked.path)
    if isinstance(found, tuple) and found[0].answer in PREDICT:
        [record] = told.records
        assert told.headers[b"x-penstock-request-id"].decode() == record.request_id
        body = msgspec.json.decode(told.body)
        assert record.request_id == (body if told.status == 200 else body["error"])["request_id"]
        assert (told.status == 200) == (record.kind == "prediction")
    else:
        assert [] == told.records
    return told


BODIES = [
    {"instances": [CHURN_ROW, {**CHURN_ROW, "region": "atlantis"}], "key": "k", "params": {"a": 1}},
    {"columns": {name: [value, value] for name, value in CHURN_ROW.items()}},
    {"features": CHURN_ROW, "model_version": 1},
    {"features": [list(CHURN_ROW.values())] * 2, "model_version": "v1", "key": "k"},
    {"features": list(CHURN_ROW.values())},
]
OWN_PATHS = [f"/v1/models/churn{part}/predict" for part in ("", "/versions/1", "/aliases/champion")]
SHORT_PATHS = ["/predict", "/batch_predict"]
PATHS = [*OWN_PATHS, *SHORT_PATHS, "/v1/models/iris/predict"]

names = st.sampled_from(
    [*CHURN_ROW, "instances", "columns", "features", "key", "params", "model_version", "$float", ""]
)
numbers = st.integers() | st.integers(2**53, 10**30) | st.floats(allow_nan=False, allow_infinity=False)
scalars = (
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.sampled_from(["plus", "north", "\uffffmissing"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=4), inner, max_size=4)
)


@st.composite
def near_valid(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path, and a right body for it with some members replaced, added or taken away, and sometimes wrong bytes."""
    right = draw(st.sampled_from(BODIES))
    body = msgspec.json.decode(msgspec.json.encode(right))
    for _ in range(draw(st.integers(0, 2))):
        _change(draw, body)
    data = bytearray(msgspec.json.encode(body))
    if draw(st.integers(0, 3)) == 3:
        at = draw(st.integers(0, len(data)))
        put = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"1e400", b"NaN"]))
        data[at : at + draw(st.integers(0, 3))] = put
    return draw(st.sampled_from(SHORT_PATHS if "features" in right else OWN_PATHS)), bytes(data)


def _change(draw: st.DrawFn, place: Any) -> None:
    """Delete, add or replace one member somewhere in a body."""
    while isinstance(place, dict | list) and place:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if isinstance(place[key], dict | list) and draw(st.integers(0, 4)):
            place = place[key]
            continue
        action = draw(st.sampled_from(["replace", "replace", "replace", "add", "delete"]))
        if action == "delete":
            del place[key]
        elif action == "add" and isinstance(place, dict):
            place[draw(names)] = draw(values)
        else:
            place[key] = draw(scalars if draw(st.booleans()) else values)
        return


anything = st.binary(max_size=200) | values.map(msgspec.json.encode)
calls = near_valid() | near_valid() | st.tuples(st.sampled_from(PATHS), anything)
media = st.sampled_from([b"application/json", b"text/plain", b""]) | st.binary(max_size=9)
read_ones = st.sampled_from([b"x-request-id", b"x-deadline-ms", b"origin", b"content-encoding"])
headers = st.lists(
    st.tuples(st.just(b"content-type"), media)
    | st.tuples(read_ones, st.binary(max_size=12))
    | st.tuples(st.just(b"content-length"), st.integers(0, 10**30).map(lambda size: b"%d" % size))
    | st.tuples(st.binary(max_size=9), st.binary(max_size=9)),
    max_size=4,
)


@settings(max_examples=600, deadline=None)
@given(calls)
@example(("/predict", b'{"features":' + b"[" * 4000))
@example(("/predict", b'{"features":[[]]}'))
@example(("/predict", b'{"features":[{},[]]}'))
@example(("/batch_predict", b'{"features":[[],{}]}'))
@example(("/v1/models/churn/predict", b'{"columns":{"age":{}}}'))
@example(("/v1/models/churn/predict", b'{"params":' + b"9" * 4900 + b',"instances":[]}'))
@example(("/v1/models/churn/predict", b'{"instances":[{"age":1' + b"0" * 4900 + b"}]}"))
@example(("/predict", b'{"features":{},"model_version":1' + b"0" * 4900 + b"}"))
@example(("/predict", b'{"features":{},"model_version":"1' + b"0" * 4290 + b'"}'))
@example(("/predict", b'{"features":{},"model_version":-170141183460469231731687303715884105729}'))
@example(("/v1/models/churn/predict", b'{"key":"\\ud800","instances":[{"plan":"\\ud800"}]}'))
@example(("/predict", b'{"features":{"\\udfff":"\\ud800"},"key":"\\ud83d"}'))
def test_any_body(ask: Ask, call: tuple[str, bytes]) -> None:
    """Any body to any route of a prediction has an answer that is no 500, and one record."""
    path, body = call
    check(ask, Asked("POST", path, [(b"content-type", b"application/json")], [body]))


paths = st.sampled_from([*PATHS, "/health", "/v1/models/iris", "/docs", "/metrics"]) | st.text(max_size=40)


@settings(max_examples=300, deadline=None)
@given(
    method=st.just("POST") | st.sampled_from(["POST", "POST", "GET", "HEAD", "OPTIONS", "PUT", ""]),
    path=st.sampled_from(PATHS) | paths,
    headers=headers,
    pieces=st.lists(anything, min_size=1, max_size=3) | near_valid().map(lambda call: [call[1]]),
)
@example("POST", "/predict", [(b"content-length", b"1" * 5000)], [b""])
@example("POST", "/predict", [(b"content-length", "\u00b2".encode("latin-1"))], [b""])
@example("POST", "/v1/models/\u0663/versions/\u0663/predict", [], [b"{}"])
@example("POST", "/v1/models/\n/aliases/\x00/predict", [(b"x-request-id", b"\r\nset-cookie: a=b")], [b"{}"])
@example("OPTIONS", "/predict", [(b"origin", b"https://a.example")], [b""])
def test_any_request(ask: Ask, method: str, path: str, headers: list[Any], pieces: list[bytes]) -> None:
    """Any method, path, headers and pieces of a body have an answer that is no 500."""
    check(ask, Asked(method, path, headers, pieces))


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 25), cut=st.lists(st.integers(0, 9000), max_size=4))
def test_the_body_is_put_together(ask: Ask, rows: int, cut: list[int]) -> None:
    """However a body is cut into pieces, the answer and the record are those of the whole body."""
    body = msgspec.json.encode({"instances": [CHURN_ROW] * rows})
    at = sorted({0, len(body), *(place % (len(body) + 1) for place in cut)})
    pieces = [body[a:b] for a, b in itertools.pairwise(at)]
    whole, apart = (check(ask, Asked("POST", PATHS[0], [], parts)) for parts in ([body], pieces))
    assert (whole.status, whole.records[0].outputs) == (apart.status, apart.records[0].outputs)
