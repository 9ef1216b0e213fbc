"""kill -9 under load: every reply that a client received is in the log exactly once, and the log is sound."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.audit import recover, verify
from running import Running, read_answer, records, request, running, segments

ROUNDS = int(os.environ.get("PENSTOCK_TEST_ROUNDS", "3"))  # `make soak-kills` does 30
FEWER = max(1, ROUNDS // 3)  # of the classes that are not the default
BOUND = 500
CONNECTIONS = 8
IRIS = "/v1/models/iris/predict"
SHORT = "/predict"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


def requests(chance: random.Random) -> bytes:
    """A single row, several, a batch by the short name, or rows that break the schema."""
    row = {**ROW, "sepal_length": chance.uniform(4, 8)}
    bodies: list[tuple[str, Any]] = [
        (IRIS, {"instances": [row]}),
        (IRIS, {"instances": [row] * chance.randint(2, 60)}),
        (SHORT, {"features": row}),
        (IRIS, {"instances": [{**row, "petal_width": "x"}]}),
    ]
    path, body = chance.choice(bodies)
    return request(path, msgspec.json.encode(body))


class Received:
    """Whole reply bodies of all connections; `enough` is set once there are `wanted`."""

    def __init__(self, wanted: int) -> None:
        self.replies: list[bytes] = []
        self.enough = asyncio.Event()
        self._wanted = wanted

    def add(self, reply: bytes) -> None:
        self.replies.append(reply)
        if len(self.replies) == self._wanted:
            self.enough.set()


async def load(server: Running, chance: random.Random, received: Received) -> None:
    """One connection's calls, one after the other, until the server is gone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        while True:
            writer.write(requests(chance))
            head = await reader.readuntil(b"\r\n\r\n")
            size_bytes = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            received.add(await reader.readexactly(size_bytes))
    except (OSError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def load_until_killed(server: Running, chance: random.Random) -> list[bytes]:
    """Every whole reply that came before the server was killed, which is after a random number of them."""
    received = Received(chance.randint(1, 1500))
    chances = [random.Random(chance.random()) for _ in range(CONNECTIONS)]
    callers = [asyncio.create_task(load(server, each, received)) for each in chances]
    await asyncio.wait_for(received.enough.wait(), 60)
    server.process.send_signal(signal.SIGKILL)
    await asyncio.gather(*callers)
    server.process.wait()
    return received.replies


def request_id_of(reply: bytes) -> tuple[str, bool]:
    body = msgspec.json.decode(reply)
    return (body["request_id"], True) if "request_id" in body else (body["error"]["request_id"], False)


@pytest.mark.parametrize(("durability", "rounds"), [("write", ROUNDS), ("fsync", FEWER), ("async", FEWER)])
def test_kill_under_load(bundles: dict[str, Path], tmp_path: Path, durability: str, rounds: int) -> None:
    """In rounds of load, SIGKILL and restart on one home no answered call is missing or there twice; with `async` no
    more are missing than the log says are lost, which is within the bound.
    """
    chance = random.Random(20261120)
    received: list[bytes] = []
    for _ in range(rounds):
        with running([bundles["iris"]], tmp_path, audit__durability=durability, audit__async_records=BOUND) as server:
            received += asyncio.run(load_until_killed(server, chance))
    recover(tmp_path / "audit")
    found = records(tmp_path)
    by_id = {record.request_id: record for record in found}
    assert len(found) == len(by_id)
    assert len(received) > rounds
    reports = [verify(path) for path in segments(tmp_path)]
    missing = [reply for reply in received if request_id_of(reply)[0] not in by_id]
    assert len(missing) <= sum(report.lost for report in reports)
    assert [] == [report.lost for report in reports if report.lost > (BOUND if durability == "async" else 0)]
    for reply in received:
        request_id, is_answer = request_id_of(reply)
        record = by_id.get(request_id)
        if record is None:
            continue
        assert is_answer == (record.kind == "prediction")
        if is_answer and record.protocol == "penstock":
            assert msgspec.json.decode(reply)["predictions"] == record.outputs
    assert [(None, 0, 0)] * rounds == [(report.broken, report.torn_bytes, report.dropped) for report in reports]


def test_a_torn_tail_is_cut(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Half a write at the end of a dead segment is cut at the next start; what was answered before stays."""
    with running([bundles["iris"]], tmp_path) as server:
        with server.connect() as connection:
            connection.sendall(request(IRIS, msgspec.json.encode({"instances": [ROW]})))
            request_id = read_answer(connection).json["request_id"]
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    [path] = segments(tmp_path)
    whole = path.read_bytes()
    record = whole.splitlines(keepends=True)[-2].replace(b'"seq":1', b'"seq":2')
    for torn in (record[:40], record + b'{"commit":{"first":2,'):
        path.write_bytes(whole + torn)
        with running([bundles["iris"]], tmp_path) as server:
            assert f"cut a torn tail of {len(torn)} bytes" in server.text
        assert whole == path.read_bytes()
    assert request_id in [found.request_id for found in records(tmp_path)]


def test_a_changed_segment_is_left_as_it_is(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A dead segment that was changed, not torn, is evidence: the start says so and leaves it."""
    with running([bundles["iris"]], tmp_path) as server, server.connect() as connection:
        connection.sendall(request(IRIS, msgspec.json.encode({"instances": [ROW]})))
        assert 200 == read_answer(connection).status
    [path] = segments(tmp_path)
    changed = path.read_bytes().replace(b"5.1", b"5.2") + b'{"seq":2,'
    path.write_bytes(changed)
    with running([bundles["iris"]], tmp_path) as server:
        assert "is broken and was left as it is" in server.text
    assert changed == path.read_bytes()
