"""What a server says and answers after a swap: every path, label, header and page follows the table at once."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from threaded import Threaded, threaded, wanted_of

from loads import wait_for
from penstock.loading import load_model
from penstock.routing import ModelOptions, Routes, RoutingTable, Wanted
from penstock.runtime import Model
from penstock.testing import TONGUES
from penstock.testing.rpc_tongue import rpc_tongue
from rows import IRIS_ROW

PATH = "/v1/models/iris/predict"
BODY = {"instances": [IRIS_ROW]}


@pytest.fixture(scope="module")
def wanted(bundles: dict[str, Path]) -> Wanted:
    return wanted_of({"iris": bundles["iris"]}, ModelOptions())


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest, wanted: Wanted, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Threaded]:
    changes: dict[str, dict[str, object]] = {"server": {"fast_lane": request.param}, "cache": {"entries": 100}}
    with threaded(tmp_path_factory.mktemp("swaps"), wanted, changes) as process:
        yield process


@pytest.fixture
def client(server: Threaded) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


def turn(server: Threaded, path: Path, numbers: tuple[int, ...], **aliases: int) -> None:
    """Serve these versions of the one bundle; those that are new are loaded first."""
    host = server.parts.host
    digest = host.table.models["iris"].versions[min(host.table.models["iris"].versions)]
    table = RoutingTable({"iris": Routes(dict.fromkeys(numbers, digest), aliases)})
    missing = server.on_loop(lambda: host.missing(table))
    made = [load_model(path, number, server.parts.swaps._settings) for _, number in missing]
    server.on_loop(lambda: host.apply(table, made))


def version_of(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.headers.get("x-penstock-version")


def test_all_paths_follow_the_table(server: Threaded, client: httpx.Client, bundles: dict[str, Path]) -> None:
    """Champion, alias, label, number, default model, gRPC: each answers by what it means now, and says so."""
    paths = {
        PATH: BODY,
        "/v1/models/iris/aliases/candidate/predict": BODY,
        "/v1/models/iris/versions/2/predict": BODY,
        "/v1/models/iris:predict": BODY,
        "/v1/models/iris/labels/candidate:predict": BODY,
        "/predict": {"features": IRIS_ROW},
        "/invocations": {"dataframe_records": [IRIS_ROW]},
    }

    def told() -> list[tuple[int, str | None]]:
        return [version_of(client.post(path, json=body)) for path, body in paths.items()]

    grpc = rpc_tongue(server.grpc)
    turn(server, bundles["iris"], (1, 2, 3), champion=1, candidate=2)
    for _ in range(2):  # the second time by the response cache, and by heads that the lane knows
        assert [(200, number) for number in "1221211"] == told()
    turn(server, bundles["iris"], (1, 2, 3), champion=3, candidate=1)
    for _ in range(2):
        assert [(200, number) for number in "3123133"] == told()
    heard = grpc.ask(client, "iris", [IRIS_ROW])
    assert (200, 3) == (heard.status, server.record(heard.request_id).version)
    turn(server, bundles["iris"], (1,), champion=1)
    assert [(200, "1"), (404, None), (404, None), (200, "1"), (404, None), (200, "1"), (200, "1")] == told()


def test_the_pages_follow_the_table(server: Threaded, client: httpx.Client, bundles: dict[str, Path]) -> None:
    """Models, readiness, the short version, the index of the repository, states and the API document."""
    for champion in (2, 1):
        turn(server, bundles["iris"], (1, 2), champion=champion, candidate=3 - champion)
        aliases = {"champion": champion, "candidate": 3 - champion}
        assert aliases == client.get("/v1/models/iris").json()["aliases"]
        assert {"iris": aliases} == client.get("/health/ready").json()["models"]
        assert champion == client.get("/model/version").json()["model_version"]
        [state] = client.get("/v1/models/iris/labels/champion").json()["model_version_status"]
        assert str(champion) == state["version"]
    turn(server, bundles["iris"], (2,), champion=2)
    assert [("iris", "2")] == [(one["name"], one["version"]) for one in client.post("/v2/repository/index").json()]
    operation = client.get("/openapi.json").json()["paths"][PATH]["post"]
    assert "Versions: 2. Aliases: champion." == operation["description"]
    assert re.findall(r'model_loaded\{model="iris",version="(\d)"\} 1', client.get("/metrics").text) == ["2"]


def test_what_could_not_be_loaded_shows(server: Threaded, client: httpx.Client, bundles: dict[str, Path]) -> None:
    """With its reason, by every protocol's words for it; the server stays ready, and answers by what it has."""
    turn(server, bundles["iris"], (2,), champion=2)
    failures = {"iris/4": "golden row 2: expected 0, got 1", "fresh/1": "it needs xgboost"}
    server.on_loop(lambda: server.parts.host.tell_failures(failures))
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    assert {"4": failures["iris/4"]} == models["iris"]["failures"]
    assert (False, [], {"1": "it needs xgboost"}) == (
        models["fresh"]["ready"],
        models["fresh"]["versions"],
        models["fresh"]["failures"],
    )
    assert models["fresh"] == client.get("/v1/models/fresh").json()
    states = client.get("/v1/models/iris").json()["model_version_status"]
    assert [("4", "END"), ("2", "AVAILABLE")] == [(state["version"], state["state"]) for state in states]
    ready = client.get("/health/ready")
    assert (200, ["fresh/1", "iris/4"]) == (ready.status_code, ready.json()["failures"])
    index = {(one["name"], one["version"]): one["state"] for one in client.post("/v2/repository/index").json()}
    assert {("iris", "2"): "READY", ("iris", "4"): "UNAVAILABLE", ("fresh", "1"): "UNAVAILABLE"} == index
    assert 'penstock_version_failed{model="iris",version="4"} 1' in client.get("/metrics").text
    assert (404, None) == version_of(client.post("/v1/models/fresh/predict", json=BODY))
    assert (200, "2") == version_of(client.post(PATH, json=BODY))
    server.on_loop(lambda: server.parts.host.tell_failures({}))
    assert {"status": "ready", "models": {"iris": {"champion": 2}}} == client.get("/health/ready").json()


def test_without_a_champion(server: Threaded, client: httpx.Client, bundles: dict[str, Path]) -> None:
    """Its pages are there, its candidate answers, and a call that names nothing is told what there is."""
    turn(server, bundles["iris"], (2,), candidate=2)
    told = client.get("/v1/models/iris").json()
    assert (False, {"candidate": 2}, 4) == (told["ready"], told["aliases"], len(told["schema"]["properties"]))
    assert PATH in client.get("/openapi.json").json()["paths"]
    assert (200, "2") == version_of(client.post("/v1/models/iris/aliases/candidate/predict", json=BODY))
    refused = client.post(PATH, json=BODY)
    assert (404, "no alias 'champion' of 'iris'; there is candidate") == (
        refused.status_code,
        refused.json()["error"]["message"],
    )


def test_nothing_keeps_a_replaced_version(server: Threaded, client: httpx.Client, bundles: dict[str, Path]) -> None:
    """Not the lane's headers, nor a page, nor a protocol: once its calls are answered its memory is given back."""
    turn(server, bundles["iris"], (7,), champion=7)
    for tongue in (*TONGUES, rpc_tongue(server.grpc)):
        assert 200 == tongue.ask(client, "iris", [IRIS_ROW]).status
    for page in ("/openapi.json", "/v1/models/iris", "/v2/models/iris", "/metrics"):
        assert 200 == client.get(page).status_code
    gone = weakref.ref(server.on_loop(lambda: server.parts.host.choose("iris", None, None).model))
    assert isinstance(gone(), Model)
    turn(server, bundles["iris"], (2,), champion=2)
    wait_for(lambda: gc.collect() is not None and gone() is None, "a freed version")
    assert msgspec.json.decode(client.post(PATH, json=BODY).content)["version"] == 2
