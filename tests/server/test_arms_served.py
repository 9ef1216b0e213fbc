"""Arms of an experiment on a real server: who gets which by every way to name a key, and what says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import pytest
from threaded import Threaded, threaded

from churns import churn_versions
from penstock.assignment import Arm, ArmRule, Experiment, Split, assign, settled, split_of
from penstock.bundle.manifest import manifest_of
from penstock.routing import Constant, FallbackOptions, ModelOptions, Routes, RoutingTable, Wanted
from penstock.server.rpc.messages import message
from penstock.testing.rpc_tongue import METHOD, grpc_body
from rows import CHURN_ROW
from variants import variant

PATH = "/v1/models/churn/predict"
RULES = (
    ArmRule(arm="narrow", header="X-Tester", equals="yes"),
    ArmRule(arm="champion", field="plan", equals="business"),
)
FEES = Experiment(
    id="fees",
    arms=(Arm(name="canary", version=2, weight=3000), Arm(name="narrow", alias="next", weight=3000)),
    rules=RULES,
    holdout=500,
)
KEYS = [f"customer-{number}" for number in range(40)]
BODY = {"instances": [CHURN_ROW]}


@pytest.fixture(scope="module")
def wanted(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Wanted:
    out = tmp_path_factory.mktemp("arms")
    churns = churn_versions(bundles["churn"], out)
    paths = {1: churns["first"], 2: churns["second"], 3: churns["narrow"]}
    amounts = {1: bundles["amount"], 2: variant(bundles["amount"], out, 1)}
    half = Experiment(id="half", arms=(Arm(name="other", version=2, weight=5000),))
    zero = ModelOptions(fallback=FallbackOptions(kind="constant", prediction=Constant(value=0.0)))
    table = {
        "churn": Routes(
            {number: manifest_of(path).content_digest for number, path in paths.items()},
            {"champion": 1, "next": 3},
            ModelOptions(),
            settled(FEES),
        ),
        "amount": Routes(
            {number: manifest_of(path).content_digest for number, path in amounts.items()},
            {"champion": 1},
            zero,
            settled(half),
        ),
        "iris": Routes({1: manifest_of(bundles["iris"]).content_digest}, {"champion": 1}),
    }
    places = {"churn": paths, "amount": amounts, "iris": {1: bundles["iris"]}}
    by_name = {name: {number: str(path) for number, path in paths.items()} for name, paths in places.items()}
    return Wanted(1, RoutingTable(table, "churn"), by_name)


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest, wanted: Wanted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Threaded]:
    changes: dict[str, dict[str, object]] = {"server": {"fast_lane": request.param}, "audit": {"clear_ids": True}}
    with threaded(tmp_path_factory.mktemp("home"), wanted, changes) as process:
        yield process


@pytest.fixture
def client(server: Threaded) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


@pytest.fixture
def split(wanted: Wanted) -> Split:
    """The same choice, without a server."""
    routes = wanted.table.models["churn"]
    assert routes.experiment is not None
    return split_of(routes.experiment, routes.versions, routes.aliases)


def swap(server: Threaded, model: str, **changes: Any) -> None:
    """Serve the same versions with other options, or another experiment."""
    host = server.parts.host

    def apply() -> None:
        routes = msgspec.structs.replace(host.table.models[model], **changes)
        host.apply(msgspec.structs.replace(host.table, models={**host.table.models, model: routes}), [])

    server.on_loop(apply)


@pytest.fixture
def as_before(server: Threaded, wanted: Wanted) -> Iterator[None]:
    yield
    swap(server, "churn", options=ModelOptions(), experiment=wanted.table.models["churn"].experiment)


def arm_of(answer: httpx.Response) -> tuple[str | None, str | None]:
    """What the headers say."""
    assert 200 == answer.status_code, answer.text
    return answer.headers.get("x-penstock-arm"), answer.headers.get("x-penstock-version")


def key_of(split: Split, arm: str) -> str:
    return next(key for key in KEYS if assign(split, key).arm == arm)


def test_a_key_gets_its_arm_wherever_it_stands(server: Threaded, client: httpx.Client, split: Split) -> None:
    """In the body, in the short form, in a header of any protocol, in metadata of gRPC: as computed elsewhere."""
    found: dict[str, list[object]] = {}
    for key in KEYS:
        expected = assign(split, key)
        told = (expected.arm, str(expected.version))
        assert told == arm_of(client.post(PATH, json={**BODY, "key": key}))
        assert told == arm_of(client.post("/predict", json={"features": CHURN_ROW, "key": key}))
        header = {"x-penstock-key": key}
        assert told == arm_of(client.post(PATH, json={**BODY, "key": "another"}, headers=header))
        assert told == arm_of(client.post("/v1/models/churn:predict", json={"instances": [CHURN_ROW]}, headers=header))
        found.setdefault(str(expected.arm), []).append(key)
    assert {"champion", "canary", "narrow"} == found.keys()
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(METHOD)
        for key in KEYS[:8]:
            body, call = infer.with_call(
                grpc_body("churn", [CHURN_ROW]), metadata=[("x-penstock-key", key)], timeout=30
            )
            trailing = dict(call.trailing_metadata())
            expected = assign(split, key)
            assert (expected.arm, "fees") == (trailing["x-penstock-arm"], trailing["x-penstock-experiment"])
            assert str(expected.version) == message("ModelInferResponse").FromString(body).model_version


def test_the_record_and_the_body_say_so(server: Threaded, client: httpx.Client, split: Split) -> None:
    """Experiment, arm, bucket and the weights in force are in every record, arm and experiment in our own bodies."""
    for arm in ("champion", "canary", "narrow"):
        key = key_of(split, arm)
        body = client.post(PATH, json={**BODY, "key": key}).json()
        record = server.record(body["request_id"])
        assert ("fees", arm, key) == (body["experiment"], body["arm"], record.key)
        assert ("fees", arm, None) == (record.experiment, record.arm, record.placed_by)
        assert (assign(split, key).bucket, {"champion": 4000, "canary": 3000, "narrow": 3000}) == (
            record.bucket, record.weights
        )  # fmt: skip
        assert (body["version"], body["digest"]) == (record.version, record.digest)
        short = client.post("/predict", json={"features": CHURN_ROW, "key": key}).json()
        assert ("fees", arm, body["version"]) == (short["experiment"], short["arm"], short["model_version"])
    lines = client.get("/metrics").text.splitlines()
    counted = [line for line in lines if line.startswith("model_requests_total{") and 'arm="narrow"' in line]
    assert any('version="3"' in line and 'protocol="penstock"' in line for line in counted)


def test_without_a_key_the_request_id_is_hashed(server: Threaded, client: httpx.Client, split: Split) -> None:
    """Ours, never the caller's own; the arm can be told from the record."""
    for _ in range(5):
        answer = client.post(PATH, json=BODY, headers={"x-request-id": "always-me"})
        request_id = answer.json()["request_id"]
        expected = assign(split, request_id)
        assert (expected.arm, str(expected.version)) == arm_of(answer)
        assert (expected.bucket, None) == (server.record(request_id).bucket, server.record(request_id).key)


def test_who_names_a_version_is_placed(server: Threaded, client: httpx.Client) -> None:
    """An explicit version or alias is answered as asked, and marked."""
    for path, arm, version, by in (
        ("/v1/models/churn/versions/2/predict", "canary", 2, "version"),
        ("/v1/models/churn/aliases/champion/predict", "champion", 1, "alias"),
        ("/v1/models/churn/aliases/next/predict", "narrow", 3, "alias"),
    ):
        answer = client.post(path, json={**BODY, "key": "customer-1"})
        record = server.record(answer.json()["request_id"])
        assert (arm, str(version)) == arm_of(answer)
        assert (arm, version, by, None) == (record.arm, record.version, record.placed_by, record.bucket)


def test_rules_place_calls(server: Threaded, client: httpx.Client, split: Split) -> None:
    """A header on the fast lane, too, and also when its head is known; a field of the rows."""
    canary = key_of(split, "canary")
    for _ in range(3):
        answer = client.post(PATH, json={**BODY, "key": canary}, headers={"X-Tester": "yes"})
        assert "narrow" == answer.headers["x-penstock-arm"]
        assert "canary" == client.post(PATH, json={**BODY, "key": canary}).headers["x-penstock-arm"]
    assert "rule" == server.record(answer.json()["request_id"]).placed_by
    business = client.post(PATH, json={"instances": [{**CHURN_ROW, "plan": "business"}], "key": canary})
    assert ("champion", "1") == arm_of(business)
    mixed = [{**CHURN_ROW, "plan": "business"}, CHURN_ROW]
    assert "canary" == client.post(PATH, json={"instances": mixed, "key": canary}).headers["x-penstock-arm"]


@pytest.mark.usefixtures("as_before")
def test_a_field_is_the_key(server: Threaded, client: httpx.Client, split: Split) -> None:
    """Where it is declared, a field of the rows keeps callers on their arm; rows of several are the champion's."""
    swap(server, "churn", options=ModelOptions(key="age"))
    for age in range(30, 50):
        row = {**CHURN_ROW, "age": age}
        expected = assign(split, str(age))
        answer = client.post(PATH, json={"instances": [row, row]})
        assert (expected.arm, str(expected.version)) == arm_of(answer)
    assert str(age) == server.record(answer.json()["request_id"]).key
    swap(server, "churn", options=ModelOptions(key="device"))  # personal, and keys are in clear here
    told = client.post(PATH, json=BODY).json()
    record = server.record(told["request_id"])
    assert (assign(split, CHURN_ROW["device"]).arm, None) == (told["arm"], record.key)
    swap(server, "churn", options=ModelOptions(key="age"))
    body = client.post(PATH, json={"instances": [{**CHURN_ROW, "age": 30}, {**CHURN_ROW, "age": 31}]}).json()
    record = server.record(body["request_id"])
    assert ("champion", "mixed", 1) == (record.arm, record.placed_by, record.version)


def test_what_only_an_arm_cannot_read(server: Threaded, client: httpx.Client, split: Split) -> None:
    """The champion answers, marked as the arm's failure; what it cannot read either is refused as ever."""
    key = key_of(split, "narrow")
    row = {**CHURN_ROW, "age": 121}
    answer = client.post(PATH, json={"instances": [row], "key": key})
    assert ("narrow", "1") == arm_of(answer)
    record = server.record(answer.json()["request_id"])
    assert record.fallback is not None
    assert ("version", "schema_violation", 3) == msgspec.structs.astuple(record.fallback)
    assert ("narrow", None, 1) == (record.arm, record.placed_by, record.version)
    short = client.post("/predict", json={"features": row, "key": key})
    assert ("narrow", "1", "version") == (*arm_of(short), short.headers["x-penstock-fallback"])
    for key in KEYS[:6]:
        refused = client.post("/predict", json={"features": {**CHURN_ROW, "age": "old"}, "key": key})
        assert (422, None) == (refused.status_code, refused.headers.get("x-penstock-fallback"))
        assert "refusal" == server.record(refused.json()["error"]["request_id"]).kind


def test_a_fallback_stays_on_the_arm(server: Threaded, client: httpx.Client) -> None:
    """Where a declared fallback answers for an arm, record and headers still say the arm, and which version failed."""
    seen = set()
    for number in range(8):
        answer = client.post("/v1/models/amount/predict", json={"instances": [{"x": 1e308}], "key": f"k{number}"})
        record = server.record(answer.json()["request_id"])
        assert record.fallback is not None
        assert ("constant", record.arm) == (answer.json()["fallback"], answer.headers["x-penstock-arm"])
        seen.add((record.arm, record.fallback.version))
    assert {("other", 2), ("champion", 1)} == seen


@pytest.mark.usefixtures("as_before")
def test_an_arm_that_is_not_here_is_the_champions(server: Threaded, client: httpx.Client) -> None:
    """Where an arm's version is not served its callers get the champion; record, headers and page say so."""
    lost = Experiment(id="lost", arms=(Arm(name="gone", version=9, weight=9999), Arm(name="canary", version=2)))
    swap(server, "churn", experiment=settled(lost))
    answer = client.post(PATH, json={**BODY, "key": KEYS[0]})
    assert ("champion", "1") == arm_of(answer)
    record = server.record(answer.json()["request_id"])
    assert ("champion", "unavailable", 1) == (record.arm, record.placed_by, record.version)
    weights = {"champion": 10_000, "gone": 0, "canary": 0}
    assert (weights, weights) == (record.weights, client.get("/v1/models/churn").json()["experiment"]["weights"])


@pytest.mark.usefixtures("as_before")
def test_weights_change_between_two_calls(server: Threaded, client: httpx.Client, wanted: Wanted) -> None:
    """Raised arms take callers of the champion only; ended, nothing says anything of an experiment."""
    before = {key: client.post(PATH, json={**BODY, "key": key}).headers["x-penstock-arm"] for key in KEYS}
    now = wanted.table.models["churn"].experiment
    raised = msgspec.structs.replace(FEES, arms=(FEES.arms[0], msgspec.structs.replace(FEES.arms[1], weight=6000)))
    swap(server, "churn", experiment=settled(raised, now))
    after = {}
    for key in KEYS:
        answer = client.post(PATH, json={**BODY, "key": key})
        after[key] = answer.headers["x-penstock-arm"]
    moved = {(before[key], after[key]) for key in KEYS if before[key] != after[key]}
    assert {("champion", "narrow")} == moved
    assert {"champion": 1000, "canary": 3000, "narrow": 6000} == server.record(answer.json()["request_id"]).weights
    told = client.get("/v1/models/churn").json()
    assert {"id": "fees", "weights": {"champion": 1000, "canary": 3000, "narrow": 6000}} == told["experiment"]
    swap(server, "churn", experiment=None)
    answer = client.post(PATH, json={**BODY, "key": KEYS[0]})
    assert (None, "1") == arm_of(answer)
    assert "experiment" not in answer.json()
    assert None is server.record(answer.json()["request_id"]).experiment
    assert "x-penstock-experiment" not in client.post("/v1/models/iris/predict", json={"instances": []}).headers
