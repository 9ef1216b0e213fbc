"""The bars of the log: what a record costs, what the log costs a server, and how fast millions are sealed and searched.

python benchmarks/log_reading.py [--write] [--records 5000000] [--only cost|throughput|reading]     or: make bench-log

Records of twelve columns are written in five portions and each is sealed by a process of its own on one core; then each
query is asked in a process of its own, whose memory is measured. What was read is in the page cache. Medians of five.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from log_asked import Took
from log_records import Filler
from penstock.audit.sealed import read_index
from processes import SERVER_CORE, end_in_order, free_port, serving
from report import PERFORMANCE, Bar, Spread, bars_table, machine, ratios, table, write_part
from stages import record_costs
from targets import Target, penstock_target
from workloads import Workload, workloads
from wrk import require, wrk

ROUNDS = 5
SECONDS = 5
CONNECTIONS = 64
COST_BAR_US = 4.0
THROUGHPUT_BAR = 0.85
SEALED_BAR = 20_000
SECONDS_BARS = {"id": 1.0, "aggregate": 5.0}
MEMORY_BAR_MB = 1000
_ASKED = Path(__file__).with_name("log_asked.py")


class Options(msgspec.Struct, frozen=True):
    """How much is measured."""

    scratch: Path
    records: int
    seconds: int


def cost(options: Options) -> tuple[str, list[Bar]]:
    """A record on the hot path, at ticks of 16."""
    costs = [(one.name, record_costs(one.bundle, one.row, options.scratch)) for one in workloads(options.scratch)]
    what = "processor time of a record at ticks of 16"
    return "", [Bar(f"{what}, {name}", Spread.of(us), COST_BAR_US, "µs", most=True) for name, us in costs]


def throughput(options: Options) -> tuple[str, list[Bar]]:
    """Servers of one worker with the log and without it, in turn."""
    require("wrk", "wrk")
    rows, bars = [], []
    for workload in workloads(options.scratch):
        rates = _rates(workload, options)
        for durability, measured in rates.items():
            rows.append([workload.name, f"`{durability}`", Spread.of(measured).text()])
        what = f"throughput with the log, of that without, {workload.name}"
        bars.append(Bar(what, ratios(rates["write"], rates["off"]), THROUGHPUT_BAR, "%"))
    return table(["model", "audit.durability", "requests/s"], rows), bars


def _rates(workload: Workload, options: Options) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {"write": [], "off": []}
    with contextlib.ExitStack() as stack:
        started: dict[str, Target] = {}
        for durability in rates:
            home = options.scratch / f"{workload.bundle.manifest.name}-{durability}"
            target = started[durability] = penstock_target(workload, free_port(), home)
            environment = {"PENSTOCK_AUDIT__DURABILITY": durability}
            output = home.with_suffix(".log")
            stack.enter_context(serving(target.command, output=output, answers=target.answers, environment=environment))
        for number in range(ROUNDS + 1):
            for durability in sorted(rates, reverse=number % 2 == 0):  # each is first in turn
                target = started[durability]
                seconds = options.seconds if number else 1  # the first is for warming up
                figures = wrk(
                    target.url, target.body, seconds=seconds, connections=CONNECTIONS, scratch=options.scratch
                )
                if figures.failed:
                    raise SystemExit(f"{figures.failed} calls failed with audit.durability = {durability}")
                if number:
                    rates[durability].append(figures.per_second)
    return rates


def reading(options: Options) -> tuple[str, list[Bar]]:
    """Sealing, and queries of what is sealed."""
    audit = options.scratch / "audit"
    filler = Filler(audit, options.records)
    sealed = []
    for _ in range(ROUNDS):
        filler.write(options.records // ROUNDS)
        sealed.append(_asked(audit, "seal"))
    bars = [
        Bar("records sealed a second of processor time", Spread.of(one.found / one.cpu_s for one in sealed),
            SEALED_BAR, ""),
        Bar("records sealed a second on one core", Spread.of(one.found / one.wall_s for one in sealed), SEALED_BAR, ""),
    ]  # fmt: skip
    rows = [["sealing of a portion", Spread.of(one.peak_mb for one in sealed).text(), ""]]
    asked: dict[str, list[list[str]]] = {"id": [[one] for one in filler.ids], "aggregate": [[]] * ROUNDS}
    for what, words in asked.items():
        began_s = time.perf_counter()
        answers = [_asked(audit, what, *each) for each in words]
        whole_s = (time.perf_counter() - began_s) / ROUNDS
        most_mb = Spread.of(one.peak_mb for one in answers)
        seconds = Spread.of(one.wall_s for one in answers)
        bars.append(Bar(f"query: {what}", seconds, SECONDS_BARS[what], "s", most=True))
        bars.append(Bar(f"peak memory of its process in MB: {what}", most_mb, MEMORY_BAR_MB, "", most=True))
        rows.append([f"query: {what}, which found {answers[0].found:,}", most_mb.text(), f"{whole_s:.2f}"])
    files = [file for entry in read_index(audit) for file in entry.files]
    size_mb = sum(file.size_bytes for file in files) / 1e6
    text = f"{sum(file.records for file in files):,} records in {len(files)} sealed files of {size_mb:,.0f} MB.\n\n"
    return text + table(["process", "peak memory, MB", "seconds with the start of Python"], rows), bars


PARTS: dict[str, Callable[[Options], tuple[str, list[Bar]]]] = {
    "cost": cost,
    "throughput": throughput,
    "reading": reading,
}


def _asked(audit: Path, what: str, *words: str) -> Took:
    """The work `what`, in a process of its own."""
    command = [sys.executable, str(_ASKED), str(audit), what, *words]
    return msgspec.json.decode(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout, type=Took)


def main() -> None:
    """Measure and print, and with `--write` keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the part of docs/performance.md")
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each round of the servers")
    parser.add_argument("--only", choices=list(PARTS))
    given = parser.parse_args()
    if given.write and given.only:
        parser.error("--write needs all parts, --only measures one")
    end_in_order()
    begun, texts, bars = machine(), [], []
    for name in [given.only] if given.only else PARTS:
        with tempfile.TemporaryDirectory(prefix="penstock-log-") as scratch:
            text, found = PARTS[name](Options(Path(scratch), given.records, given.seconds))
        texts.append(text)
        bars += found
    told = "\n".join(filter(None, texts))
    text = f"## The log\n\nMade by `make bench-log` ({begun}). {_HOW}\n\n{bars_table(bars)}\n{told}"
    print(text)
    if given.write:
        write_part(PERFORMANCE, "make bench-log", text)


_HOW = (
    f"The servers have one worker each on core {SERVER_CORE} and are asked in turn by {CONNECTIONS} connections. "
    "Records of twelve columns with keys are written through the log and sealed in five portions; each portion is "
    "sealed, and each query (of one of two days, and by five ids) is asked, in a process of its own, whose start is "
    "not counted. What they read was in the page cache."
)


if __name__ == "__main__":
    main()
