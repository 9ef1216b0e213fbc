"""Asks a server with KServe's own inference clients, REST and gRPC, and prints the answers as JSON.

Runs in an environment of its own, with kserve and without Penstock: `kserve_calls.py url host:port rows.json`, with the
models and the file of `triton_http_calls.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import httpx  # noqa: E402
import numpy as np  # noqa: E402
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402
from kserve.protocol.infer_type import RequestedOutput  # noqa: E402

DTYPES = {"float": np.float64, "int": np.int64, "bool": np.bool_, "str": np.object_}
NAMES = {"float": "FP64", "int": "INT64", "bool": "BOOL", "str": "BYTES"}


def request(model: str, columns: dict[str, list[Any]], *, binary: bool, wanted: bool = False) -> InferRequest:
    """The rows as a tensor per field."""
    inputs = []
    for name, values in columns.items():
        kind = type(values[0]).__name__
        tensor = InferInput(name, [len(values)], NAMES[kind])
        tensor.set_data_from_numpy(np.array(values, DTYPES[kind]), binary_data=binary)
        inputs.append(tensor)
    raw = {"binary_data": True}
    outputs = [RequestedOutput("label", raw), RequestedOutput("probabilities", raw)] if wanted else None
    return InferRequest(model_name=model, infer_inputs=inputs, request_outputs=outputs, request_id="a-17")


def told(answer: Any) -> list[Any]:
    """Its outputs as plain values."""
    found = []
    for output in sorted(answer.outputs, key=lambda output: output.name):
        texts = output.as_numpy().tolist()
        found.append([text.decode() if isinstance(text, bytes) else text for text in texts])
    return found


async def by_rest(url: str, columns: dict[str, dict[str, list[Any]]]) -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    cases = {
        "wine json": request("wine", columns["wine"], binary=False),
        "wine binary": request("wine", columns["wine"], binary=True),
        "wine both": request("wine", columns["wine"], binary=True, wanted=True),
        "shop json": request("shop", columns["shop"], binary=False),
        "shop binary": request("shop", columns["shop"], binary=True),
        "shop both": request("shop", columns["shop"], binary=True, wanted=True),
    }
    answers = [await client.infer(url, given, model_name=given.model_name) for given in cases.values()]
    broken = request("wine", dict(list(columns["wine"].items())[1:]), binary=False)
    try:
        await client.infer(url, broken, model_name="wine")
        refused = ""
    except httpx.HTTPStatusError as error:
        refused = str(error)
    ready = [await client.is_server_live(url), await client.is_server_ready(url)]
    ready += [await client.is_model_ready(url, "wine"), await client.is_model_ready(url, "nope")]
    await client.close()
    told_all = dict(zip(cases, map(told, answers), strict=True))
    return {**told_all, "ready": ready, "refused": refused, "id": answers[0].id}


async def by_grpc(address: str, columns: dict[str, dict[str, list[Any]]]) -> dict[str, Any]:
    async with InferenceGRPCClient(address) as client:
        cases = {
            f"{name} {binary}": request(name, columns[name], binary=binary) for name in columns for binary in (0, 1)
        }
        answers = [await client.infer(given) for given in cases.values()]
        ready = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready("wine")]
    return {**dict(zip(cases, map(told, answers), strict=True)), "ready": ready, "id": answers[0].id}


async def main() -> None:
    url, address, path = sys.argv[1:4]
    columns = json.loads(Path(path).read_text())
    sys.stdout.write(json.dumps({"rest": await by_rest(url, columns), "grpc": await by_grpc(address, columns)}))


if __name__ == "__main__":
    asyncio.run(main())
