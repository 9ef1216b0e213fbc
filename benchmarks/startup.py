"""How long a server takes to its first right answer and a killed worker to come back, what each process holds, and
where a worker's start goes.

python benchmarks/startup.py [--write]      or: make bench-startup, which keeps the result in docs/performance.md
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from processes import CLIENT_CORE, SERVER_CORE, Running, end_in_order, family, free_port, memory_of, serving
from report import PERFORMANCE, Bar, Spread, bars_table, machine, table, write_part
from targets import Target, penstock_target
from workloads import Workload, workloads
from wrk import require, wrk

STARTS = 5
LOAD_S = 10
CONNECTIONS = 64
HEAVIEST = 8
WORKER_BAR_MIB = 120
START_BAR_S = 1.5
BACK_BAR_S = 2.0
_PARTS = """
import sys, time
began_s = time.process_time()
import penstock.workers.worker, penstock.bundle.loaders.onnx
imported_s = time.process_time()
from pathlib import Path
from penstock.bundle.bundle import Bundle
from penstock.loading import load_model
from penstock.settings import Settings
Bundle.open(Path(sys.argv[1]))
opened_s = time.process_time()
load_model(Path(sys.argv[1]), 1, Settings())
print(began_s, imported_s - began_s, opened_s - imported_s, time.process_time() - opened_s)
"""
PARTS = ["Python itself", "imports", "open and verify the bundle", "load, golden rows, cost"]


class Starts(msgspec.Struct):
    """What was measured of one arrangement, start by start; the memory is that of the last one."""

    answer_s: list[float] = msgspec.field(default_factory=list)
    busy_s: list[float] = msgspec.field(default_factory=list)
    back_s: list[float] = msgspec.field(default_factory=list)
    held_mib: list[float] = msgspec.field(default_factory=list)
    loaded_mib: list[float] = msgspec.field(default_factory=list)


def main() -> None:
    """Measure and print, and with `--write` keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the part of docs/performance.md")
    said = parser.parse_args()
    end_in_order()
    require("wrk", "wrk")
    text = f"""## Start and memory

Made by `make bench-startup` ({machine()}): the server on core {SERVER_CORE}, {STARTS} starts each. Memory is of each
process, the first one's first; a worker's start is that of one process, in processor time, which a busy machine
changes little.
"""
    with tempfile.TemporaryDirectory() as scratch:
        for workload in workloads(Path(scratch)):
            text += f"\n### {workload.name}\n\n{_measured(workload, Path(scratch))}"
    text += f"\n### Imports of a worker\n\n{_imports()}"
    print(text)
    if said.write:
        write_part(PERFORMANCE, "make bench-startup", text)


def _measured(workload: Workload, scratch: Path) -> str:
    """The tables of one model."""
    measured = {workers: _starts(workload, workers, scratch) for workers in (0, 1, 2)}
    head = ["workers", "first right answer s", "processor s until then", "RSS MiB", f"after {LOAD_S} s of load RSS MiB"]
    rows = [
        [
            workers,
            Spread.of(one.answer_s).text(".2f"),
            f"{statistics.median(one.busy_s):.2f}",
            _listed(one.held_mib),
            _listed(one.loaded_mib),
        ]
        for workers, one in measured.items()
    ]
    one = measured[1]
    bars = [
        Bar("first right answer, 1 worker", Spread.of(one.answer_s), START_BAR_S, "s", most=True),
        Bar("right answer again after kill -9 of the worker", Spread.of(one.back_s), BACK_BAR_S, "s", most=True),
        Bar("worker after load", Spread.of(one.loaded_mib[1:]), WORKER_BAR_MIB, "MiB", most=True),
    ]
    parts = table(["part of a worker's start", "processor ms, median"], zip(PARTS, _parts(workload), strict=True))
    return f"{table(head, rows)}\n{bars_table(bars)}\n{parts}"


def _starts(workload: Workload, workers: int, scratch: Path) -> Starts:
    measured = Starts()
    for n in range(STARTS):
        home = scratch / f"{workload.bundle.manifest.name}-{workers}-{n}"
        target = penstock_target(workload, free_port(), home, workers=workers)
        with serving(target.command, output=scratch / "start.log", answers=target.answers) as running:
            measured.answer_s.append(running.first_answer_s)
            measured.busy_s.append(running.cpu_s())
            target.check(workload.expected)
            measured.held_mib = _held(running)
            if n == STARTS - 1:
                wrk(target.url, target.body, seconds=LOAD_S, connections=CONNECTIONS, scratch=scratch)
                measured.loaded_mib = _held(running)
            if workers == 1:
                measured.back_s.append(_back_s(running, target))
    return measured


def _back_s(running: Running, target: Target) -> float:
    """The seconds from kill -9 of the only worker to the next good answer; a call waits until somebody takes it."""
    [worker] = [pid for pid in family(running.pid) if pid != running.pid]
    began_s = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    while not target.answers():
        time.sleep(0.005)
    return time.monotonic() - began_s


def _held(running: Running) -> list[float]:
    """The resident memory of each process in MiB, the first one's first."""
    return [memory_of(pid).rss_mib for pid in sorted(family(running.pid))]


def _listed(memory_mib: list[float]) -> str:
    return ", ".join(f"{each:.0f}" for each in memory_mib)


def _parts(workload: Workload) -> list[str]:
    """The processor milliseconds of each part of a worker's start."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-c", _PARTS, str(workload.bundle.path)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(STARTS)]
    return [f"{statistics.median(float(run[part]) for run in runs) * 1e3:.0f}" for part in range(len(PARTS))]


def _imports() -> str:
    """What a worker imports: the modules that take most time by themselves."""
    command = ["taskset", "-c", str(CLIENT_CORE), sys.executable, "-X", "importtime"]
    command += ["-c", "import penstock.workers.worker, penstock.bundle.loaders.onnx"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()[1:]
    parts = [line.removeprefix("import time:").split("|") for line in lines]
    times = sorted(((int(own), name.strip()) for own, _, name in parts), reverse=True)
    rows = [[name, f"{own_us / 1e3:.1f}"] for own_us, name in times[:HEAVIEST]]
    whole = f"all {len(times)} modules"
    return table(["import", "ms by itself"], [*rows, [whole, f"{sum(own for own, _ in times) / 1e3:.0f}"]])


if __name__ == "__main__":
    main()
