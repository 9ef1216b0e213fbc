"""A marked text, sent wherever personal data may turn up, is in no file of the home, no log line and no error body.

Values, that is: the name of an undeclared field is told, so that a slip of the pen is found (docs/audit.md).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.audit.seal import Sealer
from penstock.audit.sealed import read_index
from penstock.audit.sealed_lines import sealed_lines
from rows import CHURN_ROW
from running import Running, running

MARK = "kanarienvogel7c"
SEEN = "zeisig7c"
NUMBER = 48151.6234217
CHURN = "/v1/models/churn/predict"
OTHERS = "/v1/models/churn/versions/1/predict"
FEEDBACK = "/v1/feedback"
NOBODY = "01a1f8f8-a2ee-752b-b9d0-02aeca9d1291"
ROW: dict[str, Any] = CHURN_ROW
JSON = {"content-type": "application/json"}


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
    "feedback, time": (FEEDBACK, {}, said(at=MARK)),
    "feedback, undeclared": (FEEDBACK, {}, said(**{"email": MARK, MARK: 1})),
    "feedback, unparseable": (FEEDBACK, {}, b'{"actual": ' + MARK.encode()),
    "feedback, client id": (FEEDBACK, {"x-request-id": MARK}, said()),
}


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that tells of every call that is slow, which all are, and whose schema lets undeclared fields pass."""
    home = tmp_path_factory.mktemp("canary")
    with running([bundles["churn"]], home, log__slow_ms=1) as process:
        yield process


@pytest.fixture(scope="module")
def told(server: Running) -> dict[str, httpx.Response]:
    """What came back of each call."""
    with server.client() as client:
        assert 200 == client.post(CHURN, content=rows(region=SEEN), headers=JSON).status_code
        return {
            name: client.post(path, content=body, headers={**JSON, **headers})
            for name, (path, headers, body) in CALLS.items()
        }


def spelled(mark: str) -> list[bytes]:
    """How a text may stand in bytes."""
    plain = mark.encode()
    return [plain, plain.upper(), mark.encode("utf-16-le"), base64.b64encode(plain)[:-2], plain.hex().encode()]


def is_in(data: bytes) -> bool:
    """Whether the mark is in some bytes, or the marked number."""
    return any(each in data for each in [*spelled(MARK), str(NUMBER).encode()])


@pytest.mark.parametrize("name", CALLS)
def test_no_error_body_has_it(told: dict[str, httpx.Response], name: str) -> None:
    """What is refused is told without what was sent; only the caller's own id is given back, in its header."""
    reply = told[name]
    assert reply.status_code < 500
    assert not is_in(reply.content)
    assert not is_in("\n".join(value for key, value in reply.headers.items() if key != "x-request-id").encode())


def test_no_file_and_no_log_line_has_it(server: Running, told: dict[str, httpx.Response]) -> None:
    """Not the segments, not what the server prints, nor anything else below the home; nor what is sealed of it."""
    server.stop()
    assert len(CALLS) - 1 <= len(server.records())  # what is on no route has no record
    files = [path for path in server.home.rglob("*") if path.is_file()]
    assert len(files) > 2
    assert [] == [path.name for path in files if is_in(path.name.encode())]
    assert [] == [line for path in files for line in path.read_bytes().splitlines() if is_in(line)]
    assert any(SEEN.encode() in path.read_bytes() for path in files)  # of a field that nobody declared personal
    audit = server.home / "audit"
    Sealer(audit).seal()
    lines = [line for entry in read_index(audit) for _, line in sealed_lines(audit, entry, 0)]
    assert len(CALLS) - 1 <= len(lines)
    assert [] == [line for line in lines if is_in(line)]


def test_no_bundle_has_it(tmp_path: Path) -> None:
    """Of a model that was packed with it, no file has it: golden rows, profile, schema, proof, evaluation, notes."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    import penstock

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
