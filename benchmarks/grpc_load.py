"""A closed loop of gRPC calls: one body over and over, `calls` at a time on a few connections; each again at once.

`python benchmarks/grpc_load.py ADDRESS BODY_FILE SECONDS CALLS` prints how many were answered and how many failed.
Bytes go as they are, so that the client costs as little as gRPC's Python lets it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import grpc

METHOD = "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS = 4


async def load(address: str, body: bytes, seconds: float, calls: int) -> tuple[int, int]:
    """Answered and failed calls within `seconds`."""
    until_s = time.monotonic() + seconds
    # Channels of equal options share a connection, unless told otherwise.
    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), ("penstock.no", n)])
        for n in range(CONNECTIONS)
    ]
    infer = [channel.unary_unary(METHOD) for channel in channels]
    counts = [0, 0]

    async def ask(place: int) -> None:
        while time.monotonic() < until_s:
            try:
                await infer[place % CONNECTIONS](body)
                counts[0] += 1
            except grpc.aio.AioRpcError:
                counts[1] += 1

    await asyncio.gather(*(ask(place) for place in range(calls)))
    for channel in channels:
        await channel.close()
    return counts[0], counts[1]


if __name__ == "__main__":
    address, file, seconds, calls = sys.argv[1:]
    print(*asyncio.run(load(address, Path(file).read_bytes(), float(seconds), int(calls))))
