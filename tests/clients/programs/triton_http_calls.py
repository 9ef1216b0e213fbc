"""Asks a server with Triton's own HTTP client, sync and asyncio, JSON and binary tensors; prints the answers as JSON.

Runs in an environment of its own, with tritonclient[http] and without Penstock:
`triton_http_calls.py host:port rows.json`. The server has the models `wine` (floats) and `shop` (floats, ints, truths
and texts); rows.json has their columns.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

DTYPES = {"float": np.float64, "int": np.int64, "bool": np.bool_, "str": np.object_}


def arrays(columns: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    """One array per field."""
    return {name: np.array(values, DTYPES[type(values[0]).__name__]) for name, values in columns.items()}


def inputs(named: dict[str, np.ndarray], module: Any, *, binary: bool) -> list[Any]:
    """The client's tensors."""
    found = []
    for name, array in named.items():
        tensor = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        found.append(tensor)
    return found


def told(result: Any, names: tuple[str, ...] = ("label", "probabilities")) -> list[Any]:
    """Its outputs as plain values."""
    found = []
    for name in names:
        array = result.as_numpy(name)
        texts = [text.decode() if isinstance(text, bytes) else text for text in array.tolist()]
        found.append(texts)
    return found


def cases(columns: dict[str, dict[str, list[Any]]]) -> dict[str, tuple[str, list[Any], list[Any] | None]]:
    """By name: the model, the inputs and the outputs that are asked for."""
    wine, shop = arrays(columns["wine"]), arrays(columns["shop"])
    matrix = {"input-0": np.stack(list(wine.values()), axis=1)}
    narrow = {"input-0": matrix["input-0"].astype(np.float32)}
    tall = {name: array.reshape(-1, 1) for name, array in shop.items()}
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in ("label", "probabilities")]
    mixed = [triton.InferRequestedOutput("label", binary_data=True), wanted[1]]
    return {
        "wine json": ("wine", inputs(wine, triton, binary=False), wanted),
        "wine binary": ("wine", inputs(wine, triton, binary=True), None),
        "wine matrix": ("wine", inputs(matrix, triton, binary=True), None),
        "wine matrix of json": ("wine", inputs(matrix, triton, binary=False), wanted),
        "wine of fp32": ("wine", inputs(narrow, triton, binary=True), None),
        "shop json": ("shop", inputs(shop, triton, binary=False), wanted),
        "shop binary": ("shop", inputs(shop, triton, binary=True), None),
        "shop columns": ("shop", inputs(tall, triton, binary=True), mixed),
    }


async def all_at_once(address: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The same with the asyncio client, all at once."""
    async with triton_aio.InferenceServerClient(address) as client:
        calls = [client.infer(model, given, outputs=wanted) for model, given, wanted in asked.values()]
        results = await asyncio.gather(*calls)
        ready = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready("wine")]
    return {"ready": ready, **dict(zip(asked, map(told, results), strict=True))}


def main() -> None:
    address, path = sys.argv[1:3]
    asked = cases(json.loads(Path(path).read_text()))
    with triton.InferenceServerClient(address) as client:
        answers: dict[str, Any] = {
            name: told(client.infer(model, given, outputs=wanted)) for name, (model, given, wanted) in asked.items()
        }
        model, given, _ = asked["wine binary"]
        gzipped = client.infer(
            model, given, request_compression_algorithm="gzip", response_compression_algorithm="gzip"
        )
        with_id = client.infer(model, given, request_id="a-17", model_version="1")
        try:
            client.infer(model, given[:1])
            refused = ""
        except InferenceServerException as error:
            refused = f"{error.status()} {error.message()}"
        said = {
            "gzip": told(gzipped),
            "id": with_id.get_response()["id"],
            "refused": refused,
            "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("wine")],
            "unknown": client.is_model_ready("nope"),
            "server": client.get_server_metadata()["name"],
            "metadata": client.get_model_metadata("shop"),
            "index": client.get_model_repository_index(),
        }
    sys.stdout.write(json.dumps({"sync": answers, "said": said, "asyncio": asyncio.run(all_at_once(address, asked))}))


if __name__ == "__main__":
    main()
