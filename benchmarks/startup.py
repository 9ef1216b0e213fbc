"""How long a server takes to its first right answer, what each of its processes holds, and which imports weigh most.

python benchmarks/startup.py      or: make bench-startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import CLIENT_CORE, Running, end_in_order, family, free_port, memory_of, serving
from report import table
from targets import penstock_target
from workloads import Workload, workloads
from wrk import require, wrk

STARTS = 5
LOAD_S = 10
CONNECTIONS = 64
HEAVIEST = 8
WORKER_BAR_MIB = 120
START_BAR_S = 1.5


def main() -> None:
    """Measure and print."""
    end_in_order()
    require("wrk", "wrk")
    with tempfile.TemporaryDirectory() as scratch:
        for workload in workloads(Path(scratch)):
            rows = [_row(workload, workers, Path(scratch)) for workers in (0, 1, 2)]
            head = ["workers", "first right answer s", "processor s until then", "each process RSS MiB", f"after {LOAD_S} s of load RSS MiB"]
            print(f"### {workload.name}\n\n{table(head, rows)}\n")
    print(f"Asked for: at most {START_BAR_S} s and {WORKER_BAR_MIB} MiB a worker.\n\n{_imports()}")


def _row(workload: Workload, workers: int, scratch: Path) -> list[str]:
    taken_s: list[float] = []
    busy_s: list[float] = []
    for n in range(STARTS):
        home = scratch / f"{workload.bundle.manifest.name}-{workers}-{n}"
        target = penstock_target(workload, free_port(), home, workers=workers)
        with serving(target.command, output=scratch / "start.log", answers=target.answers) as running:
            taken_s.append(running.first_answer_s)
            busy_s.append(running.cpu_s())
            target.check(workload.expected)
            held = _held(running)
            if n == STARTS - 1:
                wrk(target.url, target.body, seconds=LOAD_S, connections=CONNECTIONS, scratch=scratch)
                loaded = _held(running)
    spread = f"{statistics.median(taken_s):.2f} ({min(taken_s):.2f} to {max(taken_s):.2f})"
    return [str(workers), spread, f"{statistics.median(busy_s):.2f}", held, loaded]


def _held(running: Running) -> str:
    """The resident memory of each process, the first one's first."""
    return ", ".join(f"{memory_of(pid).rss_mib:.0f}" for pid in sorted(family(running.pid)))


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
