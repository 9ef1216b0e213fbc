"""Labels that are decided by a threshold: the same in every protocol, in the record and in the cache."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from threaded import Threaded, threaded, wanted_of

import penstock
from penstock.routing import Decision, FallbackOptions, ModelOptions, Wanted
from penstock.runtime import Model
from penstock.schema.prediction import Prediction
from penstock.testing import TONGUES, Tongue, check_protocol
from penstock.testing.rpc_tongue import rpc_tongue
from rows import CHURN_ROW

PATH = "/v1/models/churn/predict"
ROWS: list[dict[str, Any]] = [
    CHURN_ROW,
    {**CHURN_ROW, "satisfaction": 3.5, "plan": "basic", "region": "nowhere", "device": "tablet"},
    {**CHURN_ROW, "age": 19, "income": 1e-300, "usage_gb": 1 / 3, "late_payments": 12},
]
BINARY = {"v2-binary", "grpc"}


@pytest.fixture(scope="module")
def own(bundles: dict[str, Path]) -> Model:
    """The model by itself: what a decision does not change."""
    return penstock.open(bundles["churn"])


@pytest.fixture(scope="module")
def shares(own: Model) -> list[float]:
    """The probability of "yes" of each row."""
    return [(prediction.probabilities or {})["yes"] for prediction in own.predict(ROWS)]


@pytest.fixture(scope="module")
def decision(shares: list[float]) -> Decision:
    """Of three rows only the likeliest is one; the model itself says two."""
    _, middle, high = sorted(shares)
    return Decision(label="yes", otherwise="no", threshold=(middle + high) / 2)


@pytest.fixture(scope="module")
def wanted(bundles: dict[str, Path], decision: Decision) -> Wanted:
    return wanted_of({"churn": bundles["churn"]}, ModelOptions(decision=decision))


@pytest.fixture(scope="module")
def server(wanted: Wanted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Threaded]:
    with threaded(tmp_path_factory.mktemp("decided"), wanted) as process:
        yield process


def swap(server: Threaded, options: ModelOptions) -> None:
    """Serve the same version with other options."""
    host = server.parts.host

    def apply() -> None:
        routes = msgspec.structs.replace(host.table.models["churn"], options=options)
        host.apply(msgspec.structs.replace(host.table, models={"churn": routes}), [])

    server.on_loop(apply)


@pytest.fixture(params=[*(tongue.name for tongue in TONGUES), "grpc"])
def tongue(request: pytest.FixtureRequest, server: Threaded) -> Tongue:
    known = {each.name: each for each in TONGUES}
    return known.get(request.param) or rpc_tongue(server.grpc)


def test_every_protocol_says_what_was_decided(
    tongue: Tongue, server: Threaded, own: Model, decision: Decision, shares: list[float]
) -> None:
    """The contract holds with it: numbers, refusals, records; and the record has the rule."""
    swap(server, ModelOptions(decision=decision))
    check_protocol(tongue, server, "churn", ROWS, schema=own.schema)
    with server.client() as client:
        body = client.post(PATH, json={"instances": ROWS}).json()
    expected = ["yes" if share >= decision.threshold else "no" for share in shares]
    assert (1, 2) == (expected.count("yes"), [prediction.label for prediction in own.predict(ROWS)].count("yes"))
    assert expected == [prediction["label"] for prediction in body["predictions"]]
    assert msgspec.to_builtins(decision) == server.record(body["request_id"]).decision


def test_a_row_in_the_band_has_no_label(tongue: Tongue, server: Threaded, own: Model, shares: list[float]) -> None:
    """By itself and among others: absent or null, never a text or a number; as bytes the labels are left out."""
    middle = sorted(shares)[1]
    band = (middle, (middle + max(shares)) / 2)
    swap(server, ModelOptions(decision=Decision(label="yes", otherwise="no", threshold=band[0], abstain=band)))
    labels = ["yes" if share >= band[1] else None if share >= band[0] else "no" for share in shares]
    assert {"yes", "no", None} == set(labels)
    told = [
        tongue.told(Prediction(label, prediction.probabilities))
        for label, prediction in zip(labels, own.predict(ROWS), strict=True)
    ]
    with server.client() as client:
        heard = tongue.ask(client, "churn", ROWS)
    assert 200 == heard.status
    if tongue.name in BINARY:
        told = [{name: value for name, value in answer.items() if name != "label"} for answer in told]
    assert [present(answer) for answer in told] == [present(answer) for answer in heard.answers]
    assert labels == [output.get("label") for output in server.record(heard.request_id).outputs]


def present(answer: Any) -> Any:
    """An answer without the members that say nothing."""
    return {name: value for name, value in answer.items() if value is not None} if isinstance(answer, dict) else answer


def test_v2_names_the_rows_without_a_label(server: Threaded) -> None:
    """Beside the outputs, so that who needs a label for each row knows which have none."""
    swap(server, ModelOptions(decision=Decision(label="yes", otherwise="no", threshold=0.5, abstain=(0.0, 1.0))))
    v2 = next(each for each in TONGUES if each.name == "v2")
    body, headers = v2.write(ROWS)
    with server.client() as client:
        answer = client.post("/v2/models/churn/infer", content=body, headers=headers).json()
    assert {"abstained": "[0,1,2]"} == answer["parameters"]
    [label] = [output for output in answer["outputs"] if output["name"] == "label"]
    assert [None] * 3 == label["data"]


def test_the_document_says_what_may_be_absent(server: Threaded, decision: Decision) -> None:
    """A label in a band is optional in the typed operation, and nothing is where a fallback may abstain."""

    def required() -> list[str]:
        with server.client() as client:
            schema = client.get("/openapi.json").json()["components"]["schemas"]["churn.Prediction"]
        found: list[str] = schema["required"]
        return found

    swap(server, ModelOptions(decision=decision))
    assert ["label", "probabilities"] == required()
    swap(server, ModelOptions(decision=msgspec.structs.replace(decision, abstain=(decision.threshold, 1.0))))
    assert ["probabilities"] == required()
    swap(server, ModelOptions(fallback=FallbackOptions(kind="abstain")))
    assert [] == required()
    with server.client() as client:
        assert {"fallback": {"kind": "abstain"}} == client.get("/v1/models/churn").json()["options"]


@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "asgi"])
def test_the_cache_keeps_decisions_apart(wanted: Wanted, shares: list[float], tmp_path: Path, fast_lane: bool) -> None:
    """A swap of the decision answers by the new one at once; a hit says the same as the run did, and its record too."""
    changes: dict[str, dict[str, object]] = {"cache": {"entries": 100}, "server": {"fast_lane": fast_lane}}
    decisions = [Decision(label="yes", otherwise="no", threshold=threshold) for threshold in (0.0, 1.0)]
    with threaded(tmp_path, wanted, changes) as server, server.client() as client:
        for turn, decision in enumerate(itertools.islice(itertools.cycle(decisions), 4)):
            swap(server, ModelOptions(decision=decision))
            for mark in (None, "hit"):
                answer = client.post(PATH, json={"instances": [ROWS[0]]})
                label = "no" if turn % 2 else "yes"
                assert (label, mark) == (
                    answer.json()["predictions"][0]["label"],
                    answer.headers.get("x-penstock-cache"),
                )
                record = server.record(answer.json()["request_id"])
                assert (msgspec.to_builtins(decision), mark == "hit") == (record.decision, record.cached)
