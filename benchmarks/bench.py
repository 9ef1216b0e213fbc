"""`make bench`: Penstock beside the null handler of the same server, the same graph by hand, and the usual design.

The servers stand on one core, the client on the other. They take turns, and ratios are of rounds that follow each
other, so that a slow minute of the machine hits all of them. Validation and the audit log are on. `--write` puts the
result into docs/performance.md. Exit code 0 even if a bar is missed: the table says so.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from openloop import Order, Paced, Pacing, open_loop
from processes import CLIENT_CORE, SERVER_CORE, Running, end_in_order, free_port, serving
from protocols import protocols
from report import PERFORMANCE, Bar, Spread, bars_table, machine, ratios, table, write_part
from scaling import Scaling, scaling
from stages import stages
from targets import Target, bench_targets, penstock_target
from workloads import MANY, Workload, workloads
from wrk import Figures, require, wrk

CONNECTIONS = 64
PACED_CONNECTIONS = 128

NULL_BARS = {"iris forest": 1.0, "12-column pipeline": 0.75}
USUAL_BARS = {"iris forest": 130.0, "12-column pipeline": 90.0}
GRAPH_BAR, PACED_BAR, WORKERS_BAR = 5.0, 3.0, 1.7
START_BAR_S, START_BAR_MIB = 1.5, 120.0
STARTS = 3

Started = dict[str, tuple[Target, Running]]


class Options(msgspec.Struct, frozen=True):
    """How long to measure."""

    rounds: int
    seconds: int


class Measured(msgspec.Struct):
    """Figures of one server, round by round."""

    figures: list[Figures] = msgspec.field(default_factory=list)
    cpu_us: list[float] = msgspec.field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [one.per_second for one in self.figures]


def main() -> None:
    """Measure, print, and with `--write` keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--only", help="a workload's name, or the beginning of it")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    said = parser.parse_args()
    end_in_order()
    require("wrk", "wrk")
    require("taskset", "util-linux")
    options = Options(said.rounds, said.seconds)
    head, bars, parts = _head(options), list[Bar](), list[str]()
    with tempfile.TemporaryDirectory() as name:
        for workload in workloads(Path(name)):
            if workload.name.startswith(said.only or ""):
                found = _measure(workload, Path(name), options, bars)
                print(*found, sep="\n", flush=True)  # what is measured is seen, whatever becomes of the rest
                parts += found
    print(bars_table(bars))
    text = "\n".join([head, bars_table(bars), *parts])
    if said.write:
        write_part(PERFORMANCE, "make bench", text)


def _measure(workload: Workload, scratch: Path, options: Options, bars: list[Bar]) -> list[str]:
    ports = [free_port() for _ in range(4)]
    home = scratch / f"home-{workload.bundle.manifest.name}"
    one = bench_targets(workload, ports, home)
    many = bench_targets(workload, ports, home, rows=MANY)
    with _started(one, scratch) as started:
        for target in (*one, *many):
            target.check(workload.expected)
        start = _start(started, workload, scratch, bars)
        closed, answered = _closed(workload, one, started, scratch, options, bars)
        batch, _ = _closed(workload, many, started, scratch, options, bars, rows=MANY)
        paced = _paced(workload, answered, started, options, bars)
        loaded = _held(started)
    scaled = scaling(workload, scratch, rounds=3, seconds=options.seconds, connections=CONNECTIONS)
    bars.append(Bar(f"two workers / one, {workload.name}", scaled.least, WORKERS_BAR, "×"))
    spoken, found = protocols(workload, scratch, rounds=3, seconds=1)
    bars += found
    return [closed, batch, paced, spoken, _scaling(workload, scaled), start, loaded, _stages(workload, scratch)]


@contextlib.contextmanager
def _started(targets: list[Target], scratch: Path) -> Iterator[Started]:
    with contextlib.ExitStack() as stack:
        yield {
            target.name: (
                target,
                stack.enter_context(
                    serving(target.command, output=scratch / f"{target.port}.log", answers=target.answers)
                ),
            )
            for target in targets
        }


def _closed(
    workload: Workload, targets: list[Target], started: Started, scratch: Path, options: Options, bars: list[Bar],
    *, rows: int = 1,
) -> tuple[str, dict[str, Measured]]:  # fmt: skip
    """The closed loop's table, and what it says."""
    measured = {target.name: Measured() for target in targets}
    rounds = options.rounds if rows == 1 else max(3, options.rounds // 2)
    for round_no in range(rounds + 1):
        for target in targets:
            running = started[target.name][1]
            before_s = running.cpu_s()
            seconds = options.seconds if round_no else 1
            figures = wrk(target.url, target.body, seconds=seconds, connections=CONNECTIONS, scratch=scratch)
            if round_no:  # the first is for warming up
                measured[target.name].figures.append(figures)
                measured[target.name].cpu_us.append((running.cpu_s() - before_s) / max(1, figures.answered) * 1e6)
            running.settle()
    null, own, graph, original = (one.rates for one in measured.values())
    found = [
        Bar(f"penstock / null handler, {workload.name}", ratios(own, null), NULL_BARS[workload.name], "%"),
        Bar(f"penstock / FastAPI + ONNX Runtime, {workload.name}", ratios(own, graph), GRAPH_BAR, "×"),
        Bar(f"penstock / FastAPI + predict_proba, {workload.name}", ratios(own, original), USUAL_BARS[workload.name],
            "×"),
    ]  # fmt: skip
    text = f"### {workload.name}, {rows} row{'s' * (rows > 1)} a request, closed loop\n\n"
    text += table(
        ["server", "requests/s", "p50 ms", "p99 ms", "processor µs a request", "failed"],
        [_row(name, one) for name, one in measured.items()],
    )
    if rows == 1:
        bars += found
    else:
        text += "\n" + "".join(f"- {bar.row()[0]}: {bar.row()[1]}\n" for bar in found)
    return text, measured


def _row(name: str, measured: Measured) -> list[str]:
    figures = measured.figures
    p50, p99 = (Spread.of(values).middle for values in ([f.p50_ms for f in figures], [f.p99_ms for f in figures]))
    failed = sum(one.failed for one in figures)
    cost = f"{Spread.of(measured.cpu_us).middle:,.1f}"
    return [name, Spread.of(measured.rates).text(), f"{p50:.2f}", f"{p99:.2f}", cost, str(failed)]


def _paced(workload: Workload, closed: dict[str, Measured], started: Started, options: Options, bars: list[Bar]) -> str:
    """The open loop at half of what each server did in the closed one, evenly spaced and at random (Poisson)."""
    rows = []
    for name in ("null handler", "penstock", "FastAPI + ONNX Runtime"):
        target = started[name][0]
        rate = Spread.of(closed[name].rates).middle / 2
        for pacing in ("even", "poisson"):
            found = [_one_paced(target, rate, pacing, seed, options) for seed in range(3)]
            if name == "penstock" and pacing == "even":
                what = f"open loop at half of capacity, p99 / p50, {workload.name}"
                bars.append(Bar(what, Spread.of(one.ratio for one in found), PACED_BAR, "×", most=True))
            rows.append([name, pacing, f"{rate:,.0f}", *_paced_cells(found)])
    head = ["server", "spacing", "asked/s", "answered/s", "p50 ms", "p99 ms", "p99 / p50", "client late p99 ms",
            "failed"]  # fmt: skip
    return f"### {workload.name}, 1 row a request, open loop at half of capacity\n\n" + table(head, rows)


def _one_paced(target: Target, rate: float, pacing: Pacing, seed: int, options: Options) -> Paced:
    order = Order(target.port, target.request, rate, options.seconds, pacing, PACED_CONNECTIONS, seed)
    return open_loop(order)


def _paced_cells(found: list[Paced]) -> list[str]:
    answered, p50, p99, ratio, late = (
        Spread.of(getattr(one, name) for one in found)
        for name in ("per_second", "p50_ms", "p99_ms", "ratio", "late_ms")
    )
    return [
        f"{answered.middle:,.0f}", p50.text(".2f"), p99.text(".2f"), ratio.text(".1f"), f"{late.middle:.3f}",
        str(sum(one.failed for one in found)),
    ]  # fmt: skip


def _scaling(workload: Workload, scaled: Scaling) -> str:
    rows = [
        ["one worker on one core", scaled.one_us.text(".1f"), ""],
        ["two workers on that core", scaled.shared_us.text(".1f"), scaled.shared_core.text(".2f")],
        ["two workers on two cores, the client beside them", scaled.two_us.text(".1f"), scaled.two_cores.text(".2f")],
    ]
    head = ["", "processor µs a request", "two workers / one"]
    return f"### {workload.name}, two workers\n\n" + table(head, rows)


def _start(started: Started, workload: Workload, scratch: Path, bars: list[Bar]) -> str:
    taken_s, held_mib = [], []
    for n in range(STARTS):
        target = penstock_target(workload, free_port(), scratch / f"start-{workload.bundle.manifest.name}-{n}")
        with serving(target.command, output=scratch / "start.log", answers=target.answers) as running:
            taken_s.append(running.first_answer_s)
            held_mib.append(running.memory().pss_mib)
    bars += [
        Bar(f"start to first answer, {workload.name}", Spread.of(taken_s), START_BAR_S, "s", most=True),
        Bar(f"memory after it (PSS), {workload.name}", Spread.of(held_mib), START_BAR_MIB, "MiB", most=True),
    ]
    rows = [_memory_cells(name, one, f"{one.first_answer_s:.2f}") for name, (_, one) in started.items()]
    head = ["server", "first good answer s", "PSS MiB", "RSS MiB", "processes"]
    return f"### {workload.name}, start and memory\n\n" + table(head, rows)


def _held(started: Started) -> str:
    rows = [_memory_cells(name, running) for name, (_, running) in started.items()]
    return "After the load above:\n\n" + table(["server", "PSS MiB", "RSS MiB", "processes"], rows)


def _memory_cells(name: str, running: Running, *cells: str) -> list[str]:
    held = running.memory()
    return [name, *cells, f"{held.pss_mib:.0f}", f"{held.rss_mib:.0f}", str(held.processes)]


def _stages(workload: Workload, scratch: Path) -> str:
    from penstock.runtime import Model

    rows = stages(Model.load(workload.bundle), workload.row, scratch)
    cells = [[name, f"{one:.2f}", f"{many:.2f}"] for name, one, many in rows]
    head = ["stage", "ticks of 1", "ticks of 16"]
    return f"### {workload.name}, stages of the hot path\n\nµs a request, medians of 9.\n\n" + table(head, cells)


def _head(options: Options) -> str:
    return f"""# Performance

Made by `make bench` ({machine()}): servers on core {SERVER_CORE}, the client on core {CLIENT_CORE}, {CONNECTIONS}
connections, {options.rounds} rounds of {options.seconds} s, servers taking turns. Validation and the audit log are on.
Figures are medians (lowest to highest); ratios are of rounds that follow each other. The machine is shared and noisy:
read the ratios, not the rates. What each line measures, and how: [benchmarks](../benchmarks/README.md).
"""


if __name__ == "__main__":
    main()
