"""Callers that hang up: at every moment of a call, and many of them. Nobody else notices, and nothing is left over."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from pathlib import Path

import msgspec
import pytest

from loads import IRIS, Load, ask, iris_call, memory_bytes, sockets_of, wait_for, workers_of
from rows import IRIS_ROW
from running import Running, request, running

CALLS = 600
AT_ONCE = 48
AFTERWARDS = 1000
HANG_UPS = ("in the head", "in the body", "after the request", "in the answer")
LEAST_BYTES = 48 << 20  # of memory that may be kept: what one more arena of the allocator can take

SMALL = iris_call()
LARGE = request(IRIS, msgspec.json.encode({"instances": [IRIS_ROW] * 2000}))


async def hang_up(port: int, chance: random.Random, moment: str) -> None:
    """One connection that ends at `moment`: by a close, or by a reset."""
    data = LARGE if moment == "in the answer" or chance.random() < 0.1 else SMALL
    head_bytes = data.index(b"\r\n\r\n") + 4
    cut = {
        "in the head": chance.randrange(1, head_bytes),
        "in the body": chance.randrange(head_bytes, len(data)),
    }.get(moment, len(data))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(data[:cut])
    await writer.drain()
    if moment == "in the answer":
        await reader.readexactly(100)
    if chance.random() < 0.5:
        made: socket.socket = writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort() if chance.random() < 0.5 else writer.close()


async def mixed_load(server: Running) -> list[int]:
    """Calls of which 30 % hang up; the statuses that the others saw."""
    chance = random.Random(4)
    places = asyncio.Semaphore(AT_ONCE)

    async def call() -> int | None:
        async with places:
            if chance.random() < 0.3:
                await hang_up(server.port, chance, chance.choice(HANG_UPS))
                return None
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                return (await ask(reader, writer, SMALL)).status
            finally:
                writer.close()

    told = await asyncio.gather(*(call() for _ in range(CALLS)))
    return [status for status in told if status is not None]


@pytest.mark.parametrize("fast_lane", [True, False], ids=["lane", "asgi"])
def test_a_third_of_the_callers_hang_up(bundles: dict[str, Path], tmp_path: Path, fast_lane: bool) -> None:
    """Those who stay are answered, and so are all of the next thousand; connections and memory are as before."""
    # On a slow machine the large calls pile up: the bound on waiting rows is not what this is about.
    options = {"server__fast_lane": fast_lane, "limits__queue_rows": 1_000_000}
    with running([bundles["iris"]], tmp_path, "--workers", "2", **options) as server:
        asyncio.run(mixed_load(server))  # warm: the memory that such a load takes is there
        workers = workers_of(server)
        wait_for(lambda: {sockets_of(pid) for pid in workers} == {min(map(sockets_of, workers))})
        sockets, memory = list(map(sockets_of, workers)), list(map(memory_bytes, workers))
        stayed = asyncio.run(mixed_load(server))
        assert {200} == set(stayed)
        assert CALLS * 0.6 < len(stayed) < CALLS * 0.8
        with Load(server, 16, SMALL) as load:
            wait_for(lambda: len(load.answered) >= AFTERWARDS)
        assert ([], {200}) == (load.lost, set(load.statuses))
        wait_for(lambda: list(map(sockets_of, workers)) == sockets, "no connection is left")
        for pid, before in zip(workers, memory, strict=True):
            assert memory_bytes(pid) < before + LEAST_BYTES
        assert workers == workers_of(server)
        answered = {record.request_id for record in server.records() if record.kind == "prediction"}
        assert set(load.answered) <= answered
        assert not any(word in server.text for word in ("Traceback", "Exception"))
