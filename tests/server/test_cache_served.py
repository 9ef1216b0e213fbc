"""The response cache on a real server: hits are marked everywhere, and are what the model answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_bounds import metric

from running import Running, running

IRIS = "/v1/models/iris/predict"
CHURN = "/v1/models/churn/predict"


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("cache")
    paths = [bundles["iris"], bundles["churn"]]
    with running(paths, home, cache__entries=100, cache__ttl_s=600, server__fast_lane=request.param) as process:
        yield process


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as http:
        yield http


def marks(answer: httpx.Response) -> tuple[int, str | None, bool | None]:
    return answer.status_code, answer.headers.get("x-penstock-cache"), answer.json().get("cached")


MISS, HIT = (200, None, None), (200, "hit", True)


def test_a_row_that_was_asked_before(server: Running, client: httpx.Client, iris_row: dict[str, Any]) -> None:
    """The second answer is the first one, marked in reply, header and record, and counted."""
    before = [metric(server, f"penstock_cache_{what}_total") for what in ("hits", "misses")]
    row = {**iris_row, "petal_length": 2.125}
    first, second = (client.post(IRIS, json={"instances": [row]}) for _ in range(2))
    assert [MISS, HIT] == [marks(first), marks(second)]
    assert first.json()["predictions"] == second.json()["predictions"]
    records = [server.record(answer.json()["request_id"]) for answer in (first, second)]
    assert [(False, 1), (True, 0)] == [(record.cached, record.batch_rows) for record in records]
    assert (records[0].input, records[0].outputs) == (records[1].input, records[1].outputs)
    after = [metric(server, f"penstock_cache_{what}_total") for what in ("hits", "misses")]
    assert [before[0] + 1, before[1] + 1] == after


def test_the_final_row_counts(client: httpx.Client, churn_row: dict[str, Any]) -> None:
    """Rows that become the same by default or mapping are one, whatever the order of their fields or the route."""
    row = {**churn_row, "age": 47, "region": "islands", "support_calls": 0}
    bare = {name: row[name] for name in reversed(row) if name != "support_calls"} | {"region": "atlantis"}
    answers = [client.post(CHURN, json={"instances": [each]}) for each in (row, bare)]
    answers.append(client.post("/v1/models/churn/versions/1/predict", json={"instances": [row]}))
    columns = {name: [value] for name, value in row.items()}
    answers.append(client.post("/v1/models/churn/aliases/champion/predict", json={"columns": columns}))
    assert [MISS, HIT, HIT, HIT] == [marks(answer) for answer in answers]
    other = client.post(CHURN, json={"instances": [{**row, "income": None}]})
    assert MISS == marks(other)


def test_several_rows(client: httpx.Client, iris_row: dict[str, Any]) -> None:
    """A call is answered from the cache when all of its rows are there; else all of them run."""
    one, two, three = ({**iris_row, "petal_width": width} for width in (3.25, 3.5, 3.75))

    def ask(*which: dict[str, Any]) -> httpx.Response:
        return client.post(IRIS, json={"instances": list(which)})

    answers = [ask(one, two), ask(two), ask(two, one, two), ask(two, three), ask(three)]
    assert [MISS, HIT, HIT, MISS, HIT] == [marks(answer) for answer in answers]
    predictions = [answer.json()["predictions"] for answer in answers]
    assert [predictions[0][1], predictions[0][0], predictions[0][1]] == predictions[2]
