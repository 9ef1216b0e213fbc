"""The servers of `make bench`, as commands, with the request that each takes and the way to read its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from openloop import http_request
from processes import posts, python
from workloads import Workload

HERE = Path(__file__).parent
JSON = {"Content-Type": "application/json"}
TOLERANCE = 1e-6

Read = Callable[[Any], list[list[float]]]


class Target(msgspec.Struct, frozen=True):
    """A server and one request to it. `read` gives the probabilities in a decoded reply; None where there are none."""

    name: str
    command: list[str]
    port: int
    path: str
    body: bytes
    read: Read | None
    headers: Mapping[str, str] = msgspec.field(default_factory=lambda: JSON)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    @property
    def request(self) -> bytes:
        """The whole request."""
        return http_request(self.path, self.port, self.body, dict(self.headers))

    def answers(self) -> bool:
        """Whether it answers 200 now."""
        return posts(self.url, self.body, self.headers) is not None

    def check(self, expected: list[list[float]]) -> None:
        """Raises RuntimeError unless it answers the original's probabilities for the rows that it is sent."""
        reply = posts(self.url, self.body, self.headers)
        if reply is None:
            raise RuntimeError(f"{self.name}: expected an answer from {self.url}, got none or another status than 200")
        if self.read is None:
            return
        got = self.read(msgspec.json.decode(reply))
        rows = min(len(got), len(expected))
        worst = max((abs(a - b) for x, y in zip(got, expected[:rows], strict=True) for a, b in zip(x, y, strict=True)))
        if not worst <= TOLERANCE:
            raise RuntimeError(f"{self.name}: answers differ from the original's by {worst:.1e}, at most {TOLERANCE}")


def bench_targets(workload: Workload, ports: list[int], home: Path, *, rows: int = 1, workers: int = 1) -> list[Target]:
    """Null handler, Penstock, the graph by hand, the usual design, all with the same `rows` rows a request."""
    chosen = workload.rows[:rows]
    many = rows > 1
    flat = workload.by_position(chosen)
    by_hand = msgspec.json.encode(flat if many else flat[0])
    path = "/predict_batch" if many else "/predict"
    read = _listed if many else _single
    usual = str(HERE / "servers/usual.py")
    null, own, graph, original = ports
    return [
        Target("null handler", python(str(HERE / "servers/null.py"), str(null)), null, "/", by_hand, None),
        penstock_target(workload, own, home, rows=rows, workers=workers),
        Target("FastAPI + ONNX Runtime", python(usual, str(graph), "graph", str(workload.graph)), graph, path, by_hand,
               read),
        Target("FastAPI + predict_proba", python(usual, str(original), "original", str(workload.pickled)), original,
               path, by_hand, read),
    ]  # fmt: skip


def penstock_target(workload: Workload, port: int, home: Path, *, rows: int = 1, workers: int = 1) -> Target:
    """Penstock as `penstock serve` starts it, validation and records on."""
    serve = ["-m", "penstock", "serve", "--bundle", str(workload.bundle.path), "--home", str(home)]
    name = workload.bundle.manifest.name
    body = msgspec.json.encode({"instances": workload.rows[:rows]})
    command = python(*serve, "--port", str(port), "--workers", str(workers))
    return Target("penstock", command, port, f"/v1/models/{name}/predict", body, _of_penstock)


def _of_penstock(reply: Any) -> list[list[float]]:
    return [list(one["probabilities"].values()) for one in reply["predictions"]]


def _single(reply: Any) -> list[list[float]]:
    return [list(reply["probabilities"].values())]


def _listed(reply: Any) -> list[list[float]]:
    return [list(one["probabilities"].values()) for one in reply]
