"""What a shadow costs those who call the champion.

python benchmarks/shadow.py [--write]      or: make bench-shadow, which keeps the result in docs/performance.md

Two workers, the controller and the shadow on one core, an open loop on the other at half of what the server can do.
Rounds of three stretches follow each other: without a shadow; with one that takes at least ten times as long as the
champion; with one whose process dies over every tenth call.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from candidates import Slow
from openloop import Order, Paced, http_request, open_loop
from penstock.bundle.pack import PackOptions, pack
from penstock.control.answers import ShadowAnswer
from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller.remote import RemoteOperations
from penstock.jobs.comparison import Comparison
from penstock.jobs.shadow_state import read_state
from penstock.routing import SHADOW
from processes import SERVER_CORE, end_in_order, free_port, python, serving
from report import PERFORMANCE, Bar, Spread, bars_table, machine, ratios, table, write_part
from targets import JSON
from workloads import Workload, workloads
from wrk import require, wrk

ROUNDS = 9
SECONDS = 15.0
SHARE = 0.5
CAPACITY_S = 5
ROW_US = 1000.0  # well over ten times what the champion takes for a call, its library and waiting included
WAIT_S = 120.0
WARM_RATE = 100.0
RATIO_BAR = 1.15
COLUMN = "income"
SLOW, DEADLY = 2, 3
_BY = By(who=Who("bench@here"))


class Side(msgspec.Struct):
    """What the stretches with one kind of shadow gave, and what was known of it at the end of each."""

    paced: list[Paced] = msgspec.field(default_factory=list)
    known: list[ShadowAnswer] = msgspec.field(default_factory=list)


def main() -> None:
    """Measure and print, and with `--write` keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the part of docs/performance.md")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each stretch")
    said = parser.parse_args()
    end_in_order()
    require("wrk", "wrk")
    os.sched_setaffinity(0, {SERVER_CORE})  # what commands do must not disturb the client
    begun = machine()
    with tempfile.TemporaryDirectory() as scratch:
        workload = workloads(Path(scratch))[1]
        text = f"## Beside a shadow\n\n{_measured(workload, Path(scratch), said.rounds, said.seconds, begun)}"
    print(text)
    if said.write:
        write_part(PERFORMANCE, "make bench-shadow", text)


def _measured(workload: Workload, scratch: Path, rounds: int, seconds: float, begun: str) -> str:
    name = workload.bundle.manifest.name
    path = f"/v1/models/{name}/predict"
    deadly = {**workload.row, COLUMN: float(workload.row[COLUMN]) + 1 / 1024}
    bodies = [msgspec.json.encode({"instances": [row]}) for row in (workload.row, deadly)]
    sides = {0: Side(), SLOW: Side(), DEADLY: Side()}
    with _server(workload, scratch, deadly[COLUMN]) as (port, operations):
        rate = wrk(f"http://127.0.0.1:{port}{path}", bodies[0], seconds=CAPACITY_S, connections=64, scratch=scratch)
        plain, tenth = (http_request(path, port, body, JSON) for body in bodies)
        order = Order(port, plain, rate.per_second * SHARE, seconds, "poisson", tenth=tenth)
        for seed in range(rounds):
            for version, side in sides.items():
                with _shadowing(operations, name, version, order):
                    side.paced.append(open_loop(msgspec.structs.replace(order, seed=seed)))
                    shadow = operations.model(name).shadow
                    side.known += [] if shadow is None else [shadow]
        times = _times_slower(scratch / "home", name)
    what = {0: "no shadow", SLOW: f"a shadow {times:.0f} × slower", DEADLY: "one that dies over every tenth call"}
    without = sides[0].paced
    bars = [bar for version in (SLOW, DEADLY) for bar in _bars(what[version], sides[version].paced, without)]
    head = ["stretch", "requests/s", "p50 ms", "p99 ms", "worst ms", "failed", "client late p99 ms"]
    rows = [_row(what[version], side.paced) for version, side in sides.items()]
    shadow_head = ["shadow", "pairs in all", "seconds behind at the end", "skipped", "errors", "deaths in a stretch"]
    shadow_rows = [_shadow_row(what[version], sides[version].known) for version in (SLOW, DEADLY)]
    return (
        f"Made by `make bench-shadow` ({begun}): the {workload.name}, two workers, the controller and the shadow on "
        f"core {SERVER_CORE}, an open loop at {SHARE:.0%} of capacity, {rounds} interleaved rounds of {seconds:.0f} s "
        f"for each stretch.\n\n{table(head, rows)}\n{table(shadow_head, shadow_rows)}\n{bars_table(bars)}"
    )


def _bars(what: str, beside: list[Paced], without: list[Paced]) -> list[Bar]:
    rates = _rate(without, beside)
    return [
        Bar(f"p99 beside {what}, in that without", _p99(beside, without), RATIO_BAR, "×", most=True),
        Bar(f"requests/s without, in those beside {what}", rates, RATIO_BAR, "×", most=True),
    ]


def _p99(beside: list[Paced], without: list[Paced]) -> Spread:
    return ratios([one.p99_ms for one in beside], [one.p99_ms for one in without])


def _rate(without: list[Paced], beside: list[Paced]) -> Spread:
    return ratios([one.per_second for one in without], [one.per_second for one in beside])


def _row(what: str, stretches: list[Paced]) -> list[str]:
    spreads = [
        Spread.of(getattr(one, field) for one in stretches) for field in ("per_second", "p50_ms", "p99_ms", "worst_ms")
    ]
    failed = sum(one.failed for one in stretches)
    late = Spread.of(one.late_ms for one in stretches)
    return [what, spreads[0].text(), *(each.text(".2f") for each in spreads[1:]), str(failed), late.text(".2f")]


def _shadow_row(what: str, known: list[ShadowAnswer]) -> list[str]:
    def total(field: str) -> str:
        return f"{sum(getattr(one, field) for one in known):,}"

    lag, deaths = Spread.of(one.lag_s for one in known), Spread.of(one.deaths for one in known)
    return [what, total("pairs"), lag.text(".1f"), total("skipped"), total("errors"), deaths.text()]


def _times_slower(home: Path, name: str) -> float:
    """By how much the slow one is slower, over the last stretch, in runs of the fewest rows that both have made."""
    state = read_state(home, name, SLOW)
    latency = [] if state is None else Comparison(state.comparison).result().latency
    return latency[0].candidate_p50 / latency[0].champion_p50 if latency else 0.0


@contextlib.contextmanager
def _server(workload: Workload, scratch: Path, deadly: float) -> Iterator[tuple[int, RemoteOperations]]:
    """A server of two workers with the champion and both candidates: its port, and its control API."""
    port, home, output = free_port(), scratch / "home", scratch / "shadow.log"
    command = python("-m", "penstock", "serve", "--home", str(home), "--port", str(port), "--workers", "2")
    environment = {
        "PENSTOCK_CONTROL__PORT": "0",
        "PENSTOCK_SKLEARN__TRUSTED": "candidates.Slow",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])),
    }

    def control_url() -> list[str]:
        return re.findall(r"control API at (http://\S+)", output.read_text())

    with contextlib.ExitStack() as stack:
        stack.enter_context(
            serving(command, output=output, answers=lambda: bool(control_url()), environment=environment)
        )
        operations = stack.enter_context(contextlib.closing(RemoteOperations(control_url()[0])))
        operations.publish(workload.bundle.path, _BY)
        labels = workload.model.predict(workload.sample)
        for column in ("", COLUMN):
            model = Slow(row_us=ROW_US, column=column, deadly=deadly).fit(workload.sample, labels)
            options = PackOptions(golden_rows=8, trusted=("candidates.Slow",))
            out, name = scratch / f"candidate-{column or 'slow'}", workload.bundle.manifest.name
            packed = pack(model, name=name, sample=workload.sample.head(200), out=out, options=options)
            operations.publish(packed.path, _BY)
        yield port, operations


@contextlib.contextmanager
def _shadowing(operations: RemoteOperations, name: str, version: int, order: Order) -> Iterator[None]:
    """A version shadows while the block runs, and has paired calls at its beginning; 0 is none."""
    if not version:
        yield
        return
    forced = msgspec.structs.replace(_BY, reason="to be measured", is_forced=True)
    operations.move(name, SHADOW, version, forced)
    try:
        _await(lambda: (now := operations.model(name).shadow) is not None and now.at is not None)
        open_loop(msgspec.structs.replace(order, rate=WARM_RATE, seconds=1.0, tenth=b""))
        _await(lambda: (now := operations.model(name).shadow) is not None and now.pairs > 0)
        yield
    finally:
        operations.move(name, SHADOW, None, _BY)
        time.sleep(2.0)  # its process ends within a look of the controller


def _await(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > until_s:
            raise RuntimeError("the shadow is not at work")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
