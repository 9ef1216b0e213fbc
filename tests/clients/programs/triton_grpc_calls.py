"""Asks a server with Triton's own gRPC client, sync and asyncio, and prints the answers as JSON.

Runs in an environment of its own, with tritonclient[grpc] and without Penstock:
`triton_grpc_calls.py host:port rows.json`, with the models and the file of `triton_http_calls.py`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

DTYPES = {"float": np.float64, "int": np.int64, "bool": np.bool_, "str": np.object_}


def inputs(named: dict[str, np.ndarray]) -> list[Any]:
    """The client's tensors."""
    found = []
    for name, array in named.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        found.append(tensor)
    return found


def told(result: Any) -> list[Any]:
    """Its outputs as plain values."""
    found = []
    for name in ("label", "probabilities"):
        array = result.as_numpy(name)
        found.append([text.decode() if isinstance(text, bytes) else text for text in array.tolist()])
    return found


def cases(columns: dict[str, dict[str, list[Any]]]) -> dict[str, tuple[str, list[Any]]]:
    """By name: the model and the inputs."""
    wine, shop = (
        {name: np.array(values, DTYPES[type(values[0]).__name__]) for name, values in columns[model].items()}
        for model in ("wine", "shop")
    )
    matrix = np.stack(list(wine.values()), axis=1)
    return {
        "wine binary": ("wine", inputs(wine)),
        "wine matrix": ("wine", inputs({"input-0": matrix})),
        "wine of fp32": ("wine", inputs({"input-0": matrix.astype(np.float32)})),
        "shop binary": ("shop", inputs(shop)),
        "shop columns": ("shop", inputs({name: array.reshape(-1, 1) for name, array in shop.items()})),
    }


async def all_at_once(address: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The same with the asyncio client, all at once."""
    async with triton_aio.InferenceServerClient(address) as client:
        results = await asyncio.gather(*[client.infer(model, given) for model, given in asked.values()])
        ready = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready("wine")]
    return {"ready": ready, **dict(zip(asked, map(told, results), strict=True))}


def main() -> None:
    address, path = sys.argv[1:3]
    asked = cases(json.loads(Path(path).read_text()))
    with triton.InferenceServerClient(address) as client:
        answers: dict[str, Any] = {name: told(client.infer(model, given)) for name, (model, given) in asked.items()}
        model, given = asked["wine binary"]
        wanted = [triton.InferRequestedOutput("label")]
        with_id = client.infer(model, given, request_id="a-17", model_version="1", outputs=wanted, client_timeout=20.0)
        try:
            client.infer(model, given[:1])
            refused = ""
        except InferenceServerException as error:
            refused = f"{error.status()} {error.message()}"
        said = {
            "id": with_id.get_response().id,
            "outputs": [output.name for output in with_id.get_response().outputs],
            "refused": refused,
            "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("wine")],
            "unknown": client.is_model_ready("nope"),
            "server": client.get_server_metadata().name,
            "metadata": [tensor.datatype for tensor in client.get_model_metadata("shop").inputs],
            "index": [model.name for model in client.get_model_repository_index().models],
        }
    sys.stdout.write(json.dumps({"sync": answers, "said": said, "asyncio": asyncio.run(all_at_once(address, asked))}))


if __name__ == "__main__":
    main()
