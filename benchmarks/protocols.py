"""What each protocol costs the server, beside our own JSON for the same rows: processor time of an answered request.

One server on one core speaks all of them, in turns. Bodies are those of `penstock.testing.TONGUES`, whose answers
`tests/server/protocols/test_contract.py` holds against each other. `make bench` prints it; by itself:
`python benchmarks/protocols.py [--only iris]`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.testing import TONGUES
from penstock.testing.rpc_tongue import grpc_body
from penstock.testing.tongues import Tongue
from processes import CLIENT_CORE, Running, free_port, posts, python, serving
from report import Bar, Spread, ratios, table
from workloads import MANY, Workload, workloads
from wrk import wrk

CONNECTIONS = 64
OWN = "instances"
GRPC = "grpc"
BARS: Mapping[tuple[str, int], float] = {("v2", 1): 1.5, ("v2", MANY): 1.5, ("v2-binary", MANY): 1.0,
                                         (GRPC, 1): 3.0, (GRPC, MANY): 3.0}  # fmt: skip
HERE = Path(__file__).parent


class Way(msgspec.Struct, frozen=True):
    """A protocol, and how to put load on it: given seconds, the answered requests."""

    name: str
    body_bytes: int
    load: Callable[[int], int]


def protocols(workload: Workload, scratch: Path, *, rounds: int, seconds: int) -> tuple[str, list[Bar]]:
    """The table of costs for one row and for 64, and the bars."""
    name, port, grpc_port = workload.bundle.manifest.name, free_port(), free_port()
    home = scratch / f"protocols-{name}"
    command = python(
        "-m", "penstock", "serve", "--bundle", str(workload.bundle.path), "--home", str(home),
        "--port", str(port), "--grpc-port", str(grpc_port), "--workers", "1",
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    bars, parts = list[Bar](), list[str]()
    with serving(command, output=scratch / f"protocols-{port}.log", answers=lambda: _answers(url, workload)) as running:
        for rows in (1, MANY):
            ways = [_over_http(tongue, url, workload, rows, scratch) for tongue in TONGUES]
            ways.append(_over_grpc(grpc_port, workload, rows, scratch))
            costs = _costs(ways, running, rounds=rounds, seconds=seconds)
            found = {way.name: ratios(costs[way.name], costs[OWN]) for way in ways}
            parts.append(_table(workload, rows, ways, costs, found))
            bars += [
                Bar(f"{way} / own JSON, cost of {rows} row{'s' * (rows > 1)}, {workload.name}", found[way], bar, "×",
                    most=True)
                for (way, many), bar in BARS.items() if many == rows
            ]  # fmt: skip
    return "\n".join(parts), bars


def _complete(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with another row's value where one is missing: not every protocol can say that a text is missing."""
    known = {name: value for row in rows for name, value in row.items() if value is not None}
    return [{name: known.get(name) if value is None else value for name, value in row.items()} for row in rows]


def _costs(ways: list[Way], running: Running, *, rounds: int, seconds: int) -> dict[str, list[float]]:
    """Microseconds of the server's processor time for an answered request, by protocol and round."""
    costs: dict[str, list[float]] = {way.name: [] for way in ways}
    for round_no in range(rounds + 1):
        for way in ways:
            before_s = running.cpu_s()
            answered = way.load(seconds if round_no else 1)
            if round_no:  # the first is for warming up
                costs[way.name].append((running.cpu_s() - before_s) / max(1, answered) * 1e6)
            running.settle()
    return costs


def _over_http(tongue: Tongue, url: str, workload: Workload, rows: int, scratch: Path) -> Way:
    name = workload.bundle.manifest.name
    body, headers = tongue.write(_complete(workload.rows)[:rows])
    headers = {"Content-Type": "application/json", **{key.title(): value for key, value in headers.items()}}
    path = url + tongue.path.format(model=name)
    if posts(path, body, headers) is None:
        raise RuntimeError(f"{tongue.name}: expected an answer from {path}, got none or another status than 200")

    def load(seconds: int) -> int:
        figures = wrk(path, body, seconds=seconds, connections=CONNECTIONS, scratch=scratch, headers=headers)
        if figures.failed:
            raise RuntimeError(f"{tongue.name}: expected answers only, {figures.failed} requests failed")
        return figures.answered

    return Way(tongue.name, len(body), load)


def _over_grpc(port: int, workload: Workload, rows: int, scratch: Path) -> Way:
    body = grpc_body(workload.bundle.manifest.name, _complete(workload.rows)[:rows])
    file = scratch / f"grpc-{rows}.bin"
    file.write_bytes(body)

    def load(seconds: int) -> int:
        line = python(str(HERE / "grpc_load.py"), f"127.0.0.1:{port}", str(file), str(seconds), str(CONNECTIONS))
        line = ["taskset", "-c", str(CLIENT_CORE), *line]
        answered, failed = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
        if int(failed):
            raise RuntimeError(f"gRPC: expected answers only, {failed} calls failed")
        return int(answered)

    return Way(GRPC, len(body), load)


def _answers(url: str, workload: Workload) -> bool:
    body = msgspec.json.encode({"instances": workload.rows[:1]})
    path = f"{url}/v1/models/{workload.bundle.manifest.name}/predict"
    return posts(path, body, {"Content-Type": "application/json"}) is not None


def _table(
    workload: Workload, rows: int, ways: list[Way], costs: Mapping[str, list[float]], found: Mapping[str, Spread]
) -> str:
    head = ["protocol", "bytes of a request", "processor µs a request", "/ own JSON"]
    lines = [
        [way.name, f"{way.body_bytes:,}", Spread.of(costs[way.name]).text(",.1f"), found[way.name].text(".2f")]
        for way in ways
    ]
    return f"### {workload.name}, protocols, {rows} row{'s' * (rows > 1)} a request\n\n" + table(head, lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", default="", help="a workload's name, or the beginning of it")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for workload in workloads(Path(name)):
            if workload.name.startswith(said.only):
                text, bars = protocols(workload, Path(name), rounds=said.rounds, seconds=said.seconds)
                print(text)
                for bar in bars:
                    print(*bar.row(), sep=" | ")


if __name__ == "__main__":
    main()
