"""A marked text, sent wherever personal data may turn up, is in no file of the home, no log line and no error body.

Values, that is. A name that the server does not know is told to its caller, so that a slip of the pen is found, and not
recorded (docs/audit.md).
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pyarrow.parquet
import pytest

import penstock
from governed import Governed, governed
from penstock.audit.conditions import Conditions
from penstock.audit.export import export
from penstock.audit.follow import Follower
from penstock.audit.query import Records
from penstock.audit.readers import Readers
from penstock.audit.seal import Sealer
from penstock.audit.sealed import read_index
from penstock.audit.sealed_lines import sealed_lines
from penstock.cli.feedback import feedback
from penstock.testing.rpc_tongue import rpc_tongue
from penstock.testing.tongues import TONGUES, Tongue
from rows import CHURN_ROW

MARK = "kanarienvogel7c"
SEEN = "zeisig7c"
NUMBER = 48151.6234217
CHURN = "/v1/models/churn/predict"
OTHERS = "/v1/models/churn/versions/1/predict"
FEEDBACK = "/v1/feedback"
NOBODY = "01a1f8f8-a2ee-752b-b9d0-02aeca9d1291"
ROW: dict[str, Any] = CHURN_ROW
JSON = {"content-type": "application/json"}
ERASE = "/v1/audit/erase"


def rows(**changes: Any) -> bytes:
    """The body of a call for one row of `churn`, with changes."""
    return json.dumps({"instances": [{**ROW, **changes}]}).encode()


def said(**members: Any) -> bytes:
    return json.dumps({"request_id": NOBODY, "actual": 1, **members}).encode()


CALLS: dict[str, tuple[str, dict[str, str], bytes]] = {
    "pii, right type": (CHURN, {}, rows(device=MARK)),
    "pii, right type, a number": (CHURN, {}, rows(income=NUMBER)),
    "pii, wrong type": (CHURN, {}, rows(income=MARK)),
    "pii, nested": (CHURN, {}, rows(income=[MARK], device={"a": MARK})),
    "pii, as columns": (CHURN, {}, json.dumps({"columns": {"device": [MARK], "income": [MARK]}}).encode()),
    "undeclared field": (CHURN, {}, rows(email=MARK)),
    "undeclared member": (CHURN, {}, json.dumps({"instances": [ROW], "email": MARK}).encode()),
    "params": (CHURN, {}, json.dumps({"instances": [ROW], "params": {MARK: MARK}}).encode()),
    "unparseable": (CHURN, {}, b'{"instances": [{"age": ' + MARK.encode()),
    "unparseable, no UTF-8": (CHURN, {}, MARK.encode() + b"\xff"),
    "not JSON at all": (CHURN, {}, MARK.encode()),
    "key": (CHURN, {}, json.dumps({"instances": [ROW], "key": MARK}).encode()),
    "key of a refused call": (CHURN, {}, json.dumps({"instances": [{}], "key": MARK}).encode()),
    "client id": (CHURN, {"x-request-id": MARK}, rows()),
    "client id of a refused call": (CHURN, {"x-request-id": MARK}, b"{"),
    "headers": (
        CHURN,
        {"authorization": f"Bearer {MARK}", "cookie": MARK, "user-agent": MARK, "x-anything": MARK, "referer": MARK},
        rows(),
    ),
    "traceparent": (CHURN, {"traceparent": MARK, "tracestate": f"a={MARK}"}, rows()),
    "deadline": (CHURN, {"x-deadline-ms": MARK}, rows()),
    "content type": (CHURN, {"content-type": f"text/{MARK}"}, rows()),
    "content encoding": (CHURN, {"content-encoding": MARK}, rows()),
    "accept": (CHURN, {"accept": f"text/{MARK}"}, rows()),
    "query string": (f"{CHURN}?token={MARK}", {}, rows()),
    "query string of a refused call": (f"{OTHERS}?token={MARK}", {}, b"{"),
    "query string of no route": (f"/nothing?token={MARK}", {}, b""),
    "short names": ("/predict", {}, json.dumps({"features": {**ROW, "device": MARK, "email": MARK}}).encode()),
    "short names, a list": ("/predict", {}, json.dumps({"features": [MARK] * 13}).encode()),
    "open inference": (
        "/v2/models/churn/infer",
        {},
        json.dumps(
            {"id": MARK, "inputs": [{"name": "device", "shape": [1], "datatype": "BYTES", "data": [MARK]}]}
        ).encode(),
    ),
    "tensorflow": ("/v1/models/churn:predict", {}, rows(device=MARK, email=MARK)),
    "mlflow": (
        "/invocations",
        {},
        json.dumps({"dataframe_records": [{**ROW, "income": MARK, "email": MARK}]}).encode(),
    ),
    "mlflow csv": ("/invocations", {"content-type": "text/csv"}, f"income,email\n{MARK},{MARK}\n".encode()),
    "feedback, request id": (FEEDBACK, {}, said(request_id=MARK)),
    "feedback, key": (FEEDBACK, {}, json.dumps({"key": MARK, "model": "churn", "actual": 1}).encode()),
    "feedback, model": (FEEDBACK, {}, json.dumps({"key": "k", "model": MARK, "actual": 1}).encode()),
    "feedback, actual": (FEEDBACK, {}, said(actual=MARK)),
    "feedback, nested actual": (FEEDBACK, {}, said(actual={MARK: MARK})),
    "feedback, target": (FEEDBACK, {}, said(actual={MARK: 1.0})),
    "feedback, time": (FEEDBACK, {}, said(at=MARK)),
    "feedback, undeclared": (FEEDBACK, {}, said(**{"email": MARK, MARK: 1})),
    "feedback, unparseable": (FEEDBACK, {}, b'{"actual": ' + MARK.encode()),
    "feedback, client id": (FEEDBACK, {"x-request-id": MARK}, said()),
}


NAMED: dict[str, tuple[str, dict[str, str], bytes]] = {
    "undeclared field": (CHURN, {}, rows(**{MARK: 1})),
    "undeclared field, odd": (CHURN, {}, rows(**{f"{MARK} {MARK}@x": 1})),
    "undeclared column": (CHURN, {}, json.dumps({"columns": {MARK: [1]}}).encode()),
    "tensor": (
        "/v2/models/churn/infer",
        {},
        json.dumps({"inputs": [{"name": MARK, "shape": [1], "datatype": "FP64", "data": [1.5]}]}).encode(),
    ),
    "matrix": (
        "/v2/models/iris/infer",
        {},
        json.dumps({"inputs": [{"name": MARK, "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2.5]}]}).encode(),
    ),
    "undeclared column, split": (
        "/invocations",
        {},
        json.dumps({"dataframe_split": {"columns": [MARK], "data": [[1]]}}).encode(),
    ),
    "undeclared column, csv": ("/invocations", {"content-type": "text/csv"}, f"{MARK}\n1\n".encode()),
    "model": (f"/v1/models/{MARK}@x/predict", {}, rows()),
    "model, open inference": (f"/v2/models/{MARK}%20x/infer", {}, rows()),
    "model, tensorflow": (f"/v1/models/{MARK.upper()}:predict", {}, rows()),
    "model, header": ("/predict", {"x-penstock-model": f"{MARK}@x"}, json.dumps({"features": ROW}).encode()),
    "alias": (f"/v1/models/churn/aliases/{MARK}/predict", {}, rows()),
    "version": (f"/v1/models/churn/versions/{MARK}/predict", {}, rows()),
}
"""Names that nobody knows: the reply may tell them."""

MARKED: list[dict[str, Any]] = [
    {**ROW, "satisfaction": 3.0, "income": NUMBER},
    {**ROW, "satisfaction": 3.0, "device": MARK},
    {**ROW, "satisfaction": 3.0, "income": MARK},
    {**ROW, "satisfaction": 3.0, "email": MARK},
    {**ROW, "satisfaction": 3.0, MARK: 1},
]
"""Rows that every protocol can carry: the first is answered, the others are refused, the last by a name."""

READ: dict[str, str] = {
    "key": f"/v1/audit/records?key={MARK}",
    "id": f"/v1/audit/records?id={MARK}",
    "no number": f"/v1/audit/records?version={MARK}&limit={MARK}",
    "where": f"/v1/audit/records?where={MARK}",
    "where, a value": f"/v1/audit/records?where=region={MARK}",
    "page": f"/v1/audit/records?before={MARK}",
    "no parameter": f"/v1/audit/records?{MARK}={MARK}",
    "no route": f"/v1/audit/{MARK}?key={MARK}",
}
TOLD_READ: dict[str, str] = {
    "time": f"/v1/audit/records?since={MARK}",
    "field": f"/v1/audit/records?where={MARK}=1",
    "sql": f"/v1/audit/query?sql=SELECT+{MARK}+FROM+records",
    "sql, a value": f"/v1/audit/query?sql=SELECT+key+FROM+nothing+WHERE+key='{MARK}'",
}
"""An operator's own words, of which the reply may tell what is wrong with them."""

CHANGE: dict[str, bytes] = {
    "unparseable": b'{"keys": ["' + MARK.encode(),
    "wrong type": json.dumps({"keys": MARK, "reason": "asked"}).encode(),
    "no reason": json.dumps({"keys": [MARK]}).encode(),
    "a key": json.dumps({"keys": [MARK], "reason": "asked"}).encode(),
    "an id": json.dumps({"request_ids": [MARK], "reason": "asked"}).encode(),
}


@pytest.fixture(scope="module")
def plane(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """A whole server that tells of everything: every call is slow, every line is written; `async` with its page."""
    home = tmp_path_factory.mktemp("canary")
    said: dict[str, object] = {"log__level": "debug", "log__slow_ms": 1, "log__file": home / "log.jsonl"}
    words = ("--workers", "1", "--grpc-port", "0")
    with governed(home, *words, audit__durability="async", server__default_model="churn", **said) as plane:
        for name in ("churn", "iris"):
            plane.deploy(name, plane.publish(bundles[name]))
        yield plane


@pytest.fixture(scope="module")
def told(plane: Governed) -> dict[str, httpx.Response]:
    """What came back of each call."""
    with plane.server.client() as client:
        assert 200 == client.post(CHURN, content=rows(region=SEEN), headers=JSON).status_code
        return {
            name: client.post(path, content=body, headers={**JSON, **headers})
            for name, (path, headers, body) in CALLS.items()
        }


@pytest.fixture(scope="module")
def named(plane: Governed) -> dict[str, int]:
    """The status of each call with a name that nobody knows."""
    with plane.server.client() as client:
        return {
            name: client.post(path, content=body, headers={**JSON, **headers}).status_code
            for name, (path, headers, body) in NAMED.items()
        }


@pytest.fixture(scope="module")
def heard(plane: Governed) -> dict[str, list[tuple[int, bytes]]]:
    """What each protocol said of each marked row."""
    tongues = [*TONGUES, rpc_tongue(plane.server.text.partition("gRPC at ")[2].split()[0])]
    return {tongue.name: [heard_of(plane, tongue, row) for row in MARKED] for tongue in tongues}


def heard_of(plane: Governed, tongue: Tongue, row: dict[str, Any]) -> tuple[int, bytes]:
    """The status, and all that came back."""
    bodies: list[bytes] = []
    hooks: dict[str, list[Any]] = {"response": [lambda response: bodies.append(response.read())]}
    with plane.server.client(event_hooks=hooks, headers={"x-request-id": MARK}) as http:
        heard = tongue.ask(http, "churn", [row])
    return heard.status, b"".join([*bodies, msgspec.json.encode(heard)])


@pytest.fixture(scope="module")
def asked(plane: Governed) -> dict[str, httpx.Response]:
    """What the control API said to whoever asks of the log."""
    headers = {**JSON, "authorization": f"Bearer {MARK}", "user-agent": MARK, "referer": f"http://{MARK}"}
    with httpx.Client(base_url=plane.control_url, headers=headers, trust_env=False, timeout=30) as client:
        read = {name: client.get(path) for name, path in {**READ, **TOLD_READ}.items()}
        return {**read, **{name: client.post(ERASE, content=body) for name, body in CHANGE.items()}}


@pytest.fixture(scope="module")
def fed(plane: Governed, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many statements of the Python client and of the command were taken."""
    file = tmp_path_factory.mktemp("labels") / "labels.csv"
    file.write_text(f"customer,left\n{MARK},{MARK}\n{MARK} 2,yes\n")
    with penstock.Client(plane.server.url) as client:
        taken = client.feedback(key=MARK, model="churn", actual=MARK).taken
        taken += client.feedback_many(
            [{"key": MARK, "model": "churn", "actual": 1}, {"request_id": NOBODY, "actual": MARK}]
        ).taken
    feedback(name="churn", file=file, url=plane.server.url, key="customer", actual="left")
    return taken


def spelled(mark: str) -> list[bytes]:
    """How a text may stand in bytes."""
    plain = mark.encode()
    return [plain, plain.upper(), mark.encode("utf-16-le"), base64.b64encode(plain)[:-2], plain.hex().encode()]


def is_in(data: bytes) -> bool:
    """Whether the mark is in some bytes, or the marked number."""
    return any(each in data for each in [*spelled(MARK), str(NUMBER).encode(), struct.pack("<d", NUMBER)])


def marked_files(home: Path) -> list[str]:
    """The files in whose name or bytes it is."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path.name for path in files if is_in(path.name.encode()) or is_in(path.read_bytes())]


@pytest.mark.parametrize("name", CALLS)
def test_no_error_body_has_it(told: dict[str, httpx.Response], name: str) -> None:
    """What is refused is told without what was sent; only the caller's own id is given back, in its header."""
    reply = told[name]
    assert reply.status_code < 500
    assert not is_in(reply.content)
    assert not is_in("\n".join(value for key, value in reply.headers.items() if key != "x-request-id").encode())


@pytest.mark.parametrize("name", [*(tongue.name for tongue in TONGUES), "grpc"])
def test_no_protocol_says_it(heard: dict[str, list[tuple[int, bytes]]], name: str) -> None:
    """Neither the answer to a personal value nor the refusals of others have it, in any form of any protocol."""
    assert [True, False, False, False, False] == [status == 200 for status, _ in heard[name]]
    assert [] == [said for status, said in heard[name][:-1] if status >= 500 or is_in(said)]


def test_unknown_names_are_refused(named: dict[str, int]) -> None:
    """Each by the caller's fault; who asks is told the name."""
    assert {} == {name: status for name, status in named.items() if not 400 <= status < 500}


@pytest.mark.parametrize("name", [*READ, *CHANGE])
def test_the_control_api_does_not_say_it(asked: dict[str, httpx.Response], name: str) -> None:
    """Whoever searches or erases by it, and gets the question wrong, reads of the place only."""
    assert asked[name].status_code < 500
    assert not is_in(asked[name].content)


def test_no_file_and_no_log_line_has_it(
    plane: Governed,
    told: dict[str, httpx.Response],
    heard: dict[str, list[tuple[int, bytes]]],
    named: dict[str, int],
    asked: dict[str, httpx.Response],
    fed: int,
) -> None:
    """Not the segments, the page of `async`, the state, the log at debug, nor anything else below the home, while it
    runs and after; nor what is sealed of it, exported, or noted of who reads it.
    """
    home, audit = plane.home, plane.home / "audit"
    assert 3 == fed
    calls = len(told) - 1 + len(heard) * len(MARKED) + len(named) + fed  # what is on no route has no record
    with plane.server.client() as client:
        pages = [client.get(path) for path in ("/metrics", "/v1/info", "/v1/models", "/openapi.json", "/docs")]
    assert [] == [page.url.path for page in pages if page.status_code != 200 or is_in(page.content)]
    assert 1 == len(list(audit.rglob("*.issued")))
    assert [] == marked_files(home)
    assert 0 == plane.server.stop()
    assert calls <= len(plane.server.records())
    kinds = {path.suffix for path in home.rglob("*") if path.is_file()}
    assert {".jsonl", ".db", ".json", ".txt", ".key"} <= kinds
    assert "DEBUG" in plane.server.text
    assert [] == marked_files(home)
    assert any(SEEN.encode() in path.read_bytes() for path in audit.rglob("*.jsonl"))  # not declared as personal
    follower = Follower(audit)
    reader = follower.reader()
    while reader.read() is not None:
        continue
    Readers(audit).save("monitor", reader.position)
    Sealer(audit).seal()
    lines = [line for entry in read_index(audit) for _, line in sealed_lines(audit, entry, 0)]
    assert calls <= len(lines)
    assert [] == [line for line in lines if is_in(line)]
    records = Records(audit)
    assert calls <= export(records, Conditions(), home / "calls.parquet")
    assert 0 < export(records, Conditions(model="churn"), home / "rows.csv", by_row=True)
    tables = [pyarrow.parquet.read_table(path) for path in home.rglob("*.parquet")]
    assert [] == [row for table in tables for row in table.to_pylist() if is_in(repr(row).encode())]
    assert [] == marked_files(home)


def test_no_bundle_has_it(tmp_path: Path) -> None:
    """Of a model that was packed with it, no file has it: golden rows, profile, schema, proof, evaluation, notes."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    count = 60
    table = pd.DataFrame({"income": [100.0 + 7 * number for number in range(count)], "fee": range(count)})
    table.loc[table.index % 5 == 0, "income"] = NUMBER
    table["device"] = [MARK if number % 3 else f"{MARK} {number}" for number in range(count)]
    fields = (
        penstock.Field(name="income", type="float", pii="income"),
        penstock.Field(name="fee", type="float"),
        penstock.Field(name="device", type="string", pii="device"),
    )
    words = HashingVectorizer(n_features=8)
    parts = ColumnTransformer([("device", words, "device")], remainder="passthrough", sparse_threshold=0)
    bundle = penstock.pack(
        make_pipeline(parts, LinearRegression()).fit(table, table["fee"]),
        name="m",
        sample=table,
        holdout=(table, table["fee"]),
        schema=penstock.Schema(fields=fields),
        out=tmp_path,
        options=penstock.PackOptions(threshold_budget=40, golden_rows=16),
    )
    assert 8 <= len(bundle.golden.rows)
    files = {path.name for path in bundle.path.rglob("*") if path.is_file()}
    assert {"golden.json", "reference.json", "schema.yaml", "proof.json", "evaluation.json", "manifest.json"} <= files
    assert [] == [name for name in files if is_in((bundle.path / name).read_bytes())]
