"""Large frames as Arrow, packed bodies, and many batches at a time: against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pytest

import penstock
from penstock.client.calls import Options, predict_call
from penstock.errors import ClientError, ServerRefused
from penstock.testing import Running, running
from rows import CHURN_ROW, IRIS_ROW


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running([bundles["iris"], bundles["churn"]], tmp_path_factory.mktemp("arrow")) as process:
        yield process


def frame(rows: int) -> pd.DataFrame:
    """Flowers, one of them with an index of its own."""
    petals = np.linspace(1, 6, rows)
    return pd.DataFrame([IRIS_ROW] * rows).assign(petal_length=petals).set_index(np.arange(rows) + 7)


def test_large_frames_go_as_arrow() -> None:
    """From 1,000 rows on, without params, unless the caller says otherwise; smaller ones and dicts as JSON."""
    kinds = [
        predict_call("iris", rows, options).headers["content-type"]
        for rows, options in [
            (frame(1000), Options()),
            (frame(999), Options()),
            (frame(999), Options(format="arrow")),
            (frame(1000), Options(format="json")),
            (frame(1000), Options(params={"a": 1})),
            ([IRIS_ROW] * 1000, Options()),
        ]
    ]
    arrow, json = "application/vnd.apache.arrow.stream", "application/json"
    assert [arrow, json, arrow, json, json, json] == kinds


@pytest.mark.parametrize("gzip", [False, True])
def test_the_answers_are_those_of_json(server: Running, gzip: bool) -> None:
    """Frames of pandas, tables and columns of Arrow, categories and gaps: the same predictions and key."""
    rows = pd.DataFrame([CHURN_ROW, {**CHURN_ROW, "satisfaction": 2.5, "plan": "basic"}]).astype({"plan": "category"})
    with penstock.Client(server.url, gzip=gzip) as client:
        expected = client.predict("churn", rows, format="json", key="k").predictions
        forms: list[Any] = [rows, pa.Table.from_pandas(rows, preserve_index=False), {n: list(rows[n]) for n in rows}]
        for form in forms:
            form = form if not isinstance(form, dict) else {**form, "satisfaction": [None, 2.5]}
            answer = client.predict("churn", form, format="arrow", key="k")
            assert expected == answer.predictions
            assert server.pseudonyms.of_key("k") == server.record(answer.request_id).key
        large = client.predict("iris", frame(3000))
        assert client.predict("iris", frame(3000), format="json").predictions == large.predictions


def test_a_refusal_names_the_column(server: Running) -> None:
    """A wrong column of a frame is told as in JSON columns."""
    with penstock.Client(server.url) as client, pytest.raises(ServerRefused) as raised:
        client.predict("iris", frame(2).assign(petal_width=["a", "b"]), format="arrow")
    assert ["$.columns.petal_width[0]", "$.columns.petal_width[1]"] == [each.path for each in raised.value.violations]


def test_what_arrow_cannot_hold_is_told() -> None:
    """Columns of mixed kinds, and options that Arrow does not carry, are the caller's error."""
    with pytest.raises(ClientError, match="that Arrow can hold"):
        predict_call("iris", pd.DataFrame({"x": [1, "a"]}), Options(format="arrow"))
    with pytest.raises(ClientError, match="Expected no `params`"):
        predict_call("iris", frame(2), Options(format="arrow", params={}))


def test_many_batches_keep_their_order_and_their_connections(server: Running) -> None:
    """Batches are asked a few at a time, on as many connections, and answered in their order."""
    under_way = peak = 0

    async def batches() -> AsyncIterator[pd.DataFrame]:
        nonlocal under_way, peak
        for rows in range(1, 40):
            under_way += 1
            peak = max(peak, under_way)
            yield frame(rows)

    async def ask() -> list[int]:
        nonlocal under_way
        found = []
        async with penstock.AsyncClient(server.url, max_concurrency=4) as client:
            async for answer in client.predict_many("iris", batches()):
                under_way -= 1
                found.append(len(answer.predictions))
        return found

    assert [*range(1, 40)] == asyncio.run(ask())
    assert peak <= 5


def test_the_first_error_ends_many(server: Running) -> None:
    """What is wrong with one batch is raised in its turn; nothing after it is answered."""

    async def ask() -> int:
        answered = 0
        async with penstock.AsyncClient(server.url, max_concurrency=2) as client:
            with pytest.raises(ServerRefused):
                async for _ in client.predict_many("iris", [[IRIS_ROW], [IRIS_ROW], [{}], [IRIS_ROW]]):
                    answered += 1
        return answered

    assert 2 == asyncio.run(ask())


def test_rows_and_answer_have_their_types_by_themselves(server: Running) -> None:
    """JSON in and Arrow out, with what answered in the stream's metadata; the record is that of JSON."""
    media = "application/vnd.apache.arrow.stream"
    with server.client(headers={"accept": media}) as http:
        reply = http.post("/v1/models/iris/predict", json={"instances": [IRIS_ROW, IRIS_ROW]})
    table = pa.ipc.open_stream(reply.content).read_all()
    assert ["label", "probabilities.0", "probabilities.1", "probabilities.2"] == table.column_names
    assert (media, 2) == (reply.headers["content-type"], table.num_rows)
    about = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    record = server.record(about["request_id"])
    assert ("penstock", record.digest, "iris") == (record.protocol, about["digest"], about["model"])
