"""What swaps cost those who call meanwhile, and how soon a rollback is everywhere.

python benchmarks/swap.py [--write]      or: make bench-swap, which keeps the result in docs/performance.md

Two workers and the controller on one core, an open loop on the other at half of what the server can do. Rounds of
stretches follow each other: one without swaps, one with a deploy and a rollback in turn, one a second, by the control
API. Three versions of the model take turns, so that every deploy loads one that had been let go.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec

from openloop import Order, Paced, http_request, open_loop
from penstock.bundle.bundle import Bundle
from penstock.bundle.manifest import GOLDEN_FILE
from penstock.bundle.write import Identity, sealed, write_bundle
from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller.remote import RemoteOperations
from penstock.routing import CHAMPION
from processes import SERVER_CORE, Running, end_in_order, free_port, python, serving
from report import PERFORMANCE, Bar, Spread, bars_table, machine, ratios, table, write_part
from targets import JSON
from workloads import Workload, workloads
from wrk import require, wrk

ROUNDS = 5
SECONDS = 30.0
EVERY_S = 1.0
SHARE = 0.5
CAPACITY_S = 5
VERSIONS = 3
P99_BAR = 1.5
ROLLBACK_BAR_S = 1.0
_BY = By(who=Who("bench@here"))


class Told(msgspec.Struct):
    """What the commands took, from being sent to all workers serving it, and how many were not applied."""

    deploy_s: list[float] = msgspec.field(default_factory=list)
    rollback_s: list[float] = msgspec.field(default_factory=list)
    missed: int = 0


def main() -> None:
    """Measure and print, and with `--write` keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the part of docs/performance.md")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each stretch")
    said = parser.parse_args()
    end_in_order()
    require("wrk", "wrk")
    os.sched_setaffinity(0, {SERVER_CORE})  # the operator must not disturb the client
    begun = machine()
    with tempfile.TemporaryDirectory() as scratch:
        workload = workloads(Path(scratch))[1]
        text = f"## Swaps under load\n\n{_measured(workload, Path(scratch), said.rounds, said.seconds, begun)}"
    print(text)
    if said.write:
        write_part(PERFORMANCE, "make bench-swap", text)


def _measured(workload: Workload, scratch: Path, rounds: int, seconds: float, begun: str) -> str:
    name = workload.bundle.manifest.name
    body = msgspec.json.encode({"instances": [workload.row]})
    path = f"/v1/models/{name}/predict"
    without: list[Paced] = []
    during: list[Paced] = []
    told = Told()
    with _server(workload, scratch) as (port, operations):
        wrk_rate = wrk(f"http://127.0.0.1:{port}{path}", body, seconds=CAPACITY_S, connections=64, scratch=scratch)
        order = Order(port, http_request(path, port, body, JSON), wrk_rate.per_second * SHARE, seconds, "poisson")
        turn = count()
        for seed in range(rounds):
            order = msgspec.structs.replace(order, seed=seed)
            without.append(open_loop(order))
            with _swapping(operations, name, told, turn):
                during.append(open_loop(order))
    bars = [
        Bar("p99 during swaps, in that without", _p99_ratio(during, without), P99_BAR, "×", most=True),
        Bar(
            "rollback, from the command to the last worker", Spread.of(told.rollback_s), ROLLBACK_BAR_S, "s", most=True
        ),
    ]
    head = ["stretch", "requests/s", "p50 ms", "p99 ms", "worst ms", "failed", "client late p99 ms"]
    rows = [_row("without swaps", without), _row("a swap a second", during)]
    swaps = len(told.deploy_s) + len(told.rollback_s)
    return (
        f"Made by `make bench-swap` ({begun}): the {workload.name}, two workers and the controller on core "
        f"{SERVER_CORE}, an open loop at {SHARE:.0%} of capacity, {rounds} rounds of {seconds:.0f} s; {swaps} swaps, "
        f"of which {told.missed} were not applied in time. A deploy loads its version anew and took "
        f"{Spread.of(told.deploy_s).text('.2f')} s.\n\n{table(head, rows)}\n{bars_table(bars)}"
    )


def _p99_ratio(during: list[Paced], without: list[Paced]) -> Spread:
    return ratios([one.p99_ms for one in during], [one.p99_ms for one in without])


def _row(what: str, stretches: list[Paced]) -> list[str]:
    spreads = [
        Spread.of(getattr(one, field) for one in stretches) for field in ("per_second", "p50_ms", "p99_ms", "worst_ms")
    ]
    failed = sum(one.failed for one in stretches)
    late = Spread.of(one.late_ms for one in stretches)
    return [what, spreads[0].text(), *(each.text(".2f") for each in spreads[1:]), str(failed), late.text(".2f")]


@contextlib.contextmanager
def _server(workload: Workload, scratch: Path) -> Iterator[tuple[int, RemoteOperations]]:
    """A server of two workers with the versions published, the first one champion: its port, and its control API."""
    port, home, output = free_port(), scratch / "home", scratch / "swap.log"
    command = python("-m", "penstock", "serve", "--home", str(home), "--port", str(port), "--workers", "2")

    def is_there() -> bool:
        return re.search(r"control API at (http://\S+)", output.read_text()) is not None

    environment = {"PENSTOCK_CONTROL__PORT": "0"}
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(serving(command, output=output, answers=is_there, environment=environment))
        operations = stack.enter_context(contextlib.closing(RemoteOperations(_control_url(running))))
        for number in range(VERSIONS):
            operations.publish(_version(workload.bundle, scratch / "versions", number), _BY)
        for number in range(1, VERSIONS + 1):  # each is tried once
            operations.move(workload.bundle.manifest.name, CHAMPION, number % VERSIONS + 1, _BY)
        yield port, operations


def _control_url(running: Running) -> str:
    [url] = re.findall(r"control API at (http://\S+)", running.output.read_text())
    return str(url)


def _version(bundle: Bundle, out: Path, fewer: int) -> Path:
    """The same model as another version: sealed anew with so many golden rows fewer."""
    golden, told = bundle.golden, bundle.manifest
    kept = len(golden.rows) - fewer
    answers = {name: values[:kept] for name, values in golden.answers.items()}
    other = msgspec.structs.replace(golden, rows=golden.rows[:kept], answers=answers)
    files = {**Bundle.open(bundle.path).files, GOLDEN_FILE: msgspec.json.encode(other)}
    identity = Identity(told.name, told.flavour, told.loader, told.model_file)
    return write_bundle(sealed(identity, files), out, told.name, is_archive=False)


@contextlib.contextmanager
def _swapping(operations: RemoteOperations, name: str, told: Told, turn: Iterator[int]) -> Iterator[None]:
    """A swap a second while the block runs, a deploy and a rollback in turn."""
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            began_s, number = time.monotonic(), next(turn)
            if number % 2:
                answer, times = operations.rollback(name, _BY), told.rollback_s
            else:
                answer = operations.move(name, CHAMPION, 2 + number // 2 % 2, _BY)
                times = told.deploy_s
            took_s = time.monotonic() - began_s
            times.append(took_s)
            told.missed += not answer.is_applied
            is_over.wait(max(0.0, EVERY_S - took_s))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


if __name__ == "__main__":
    main()
