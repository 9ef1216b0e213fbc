"""Rows with a number of their own, from 64 connections at once: each answer is its caller's own.

100,000 rows, or as many as PENSTOCK_TEST_ROWS says (`make soak-rows`: a million).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from loads import ask, summed, wait_for
from running import Running, request, running

ROWS = int(os.environ.get("PENSTOCK_TEST_ROWS", "100000"))
CONNECTIONS = 64
SINGLE = 0.7  # of the calls ask for one row
MOST_ROWS = 60
PATH = "/v1/models/echo/predict"


class _Row(msgspec.Struct):
    x: float


class _Asked(msgspec.Struct):
    instances: list[_Row]


class _Value(msgspec.Struct):
    value: float


class _Answer(msgspec.Struct):
    predictions: list[_Value]
    request_id: str


_DECODER = msgspec.json.Decoder(_Answer)


async def caller(server: Running, ids: Iterator[int], chance: random.Random) -> list[str]:
    """Ask for rows with the next ids until there are none; the request ids of the answers, each of them checked."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 20)
    answered: list[str] = []
    try:
        while own := list(itertools.islice(ids, 1 if chance.random() < SINGLE else chance.randint(2, MOST_ROWS))):
            body = msgspec.json.encode(_Asked([_Row(float(each)) for each in own]))
            told = await ask(reader, writer, request(PATH, body))
            assert 200 == told.status
            answer = _DECODER.decode(told.body)
            assert own == [each.value for each in answer.predictions]
            answered.append(answer.request_id)
    finally:
        writer.close()
    return answered


async def all_callers(server: Running) -> list[str]:
    ids = iter(range(1, ROWS + 1))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller(server, ids, random.Random(number))) for number in range(CONNECTIONS)]
    return [request_id for task in tasks for request_id in task.result()]


def test_every_row_comes_back_to_its_caller(faulty: dict[str, Path], tmp_path: Path) -> None:
    """A model that answers its input gives each caller its own rows in their order, and the log holds them all."""
    with running([faulty["echo"]], tmp_path, "--workers", "2") as server:
        answered = asyncio.run(all_callers(server))
        wait_for(lambda: summed(server, "model_requests_total", status="success") == len(answered))
        rows, runs = summed(server, "model_batch_rows_sum"), summed(server, "model_batch_rows_count")
        assert ROWS == rows
        assert runs < len(answered)  # so that callers did share runs
        assert len(answered) == len(set(answered))
        if ROWS <= 200_000:
            assert set(answered) == {record.request_id for record in server.records()}
