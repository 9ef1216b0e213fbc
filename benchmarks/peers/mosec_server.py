"""mosec: `mosec_server.py --port PORT`. One model process; what queues runs as one batch, after 1 ms at most."""

from __future__ import annotations

from typing import Any

import model
from mosec import Server, Worker


class Tabular(Worker):
    """One model, a list of requests at a time."""

    def __init__(self) -> None:
        self.model = model.load()

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        found = self.model.predict([one["row"] for one in data])[1]
        return [{"probabilities": values} for values in found]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Tabular, num=1, max_batch_size=16, max_wait_time=1)
    server.run()
