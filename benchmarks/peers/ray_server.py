"""Ray Serve: `ray_server.py PORT`. One replica, which takes as many requests at once as the client has connections."""

from __future__ import annotations

import sys
import threading
from typing import Any

import model
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.1})
class Tabular:
    """One model."""

    def __init__(self) -> None:
        self.model = model.load()

    async def __call__(self, request: Request) -> dict[str, Any]:
        row = (await request.json())["row"]
        return {"probabilities": self.model.predict([row])[1][0]}


if __name__ == "__main__":
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    quiet = {"enable_access_log": False, "log_level": "ERROR"}
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config=quiet)
    serve.run(Tabular.options(logging_config=quiet).bind(), name="tabular", route_prefix="/predict")
    threading.Event().wait()
