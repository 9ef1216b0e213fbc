"""`make load`: `ab -k -c 50 -n 20000` against `POST /predict`, beside the targets of the founding design.

ab opens 50 kept connections and each sends when it has its answer. Exit code 1 if a target is missed. `--write` keeps
the result in docs/performance.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from processes import CLIENT_CORE, SERVER_CORE, end_in_order, free_port, serving
from report import PERFORMANCE, Bar, Spread, bars_table, machine, table, write_part
from targets import penstock_target
from workloads import Workload, workloads
from wrk import require

CONNECTIONS, REQUESTS = 50, 20_000
P95_MS, ERROR_RATE, PER_SECOND = 200.0, 0.001, 100.0


class Load(msgspec.Struct, frozen=True):
    """What one run of ab measured; latencies are whole milliseconds, as ab prints them."""

    answered: int
    failed: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def error_rate(self) -> float:
        """Failed requests in all."""
        return self.failed / max(1, self.answered)


def main() -> None:
    """Measure both workloads, print, and with `--write` keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the part of docs/performance.md")
    said = parser.parse_args()
    end_in_order()
    require("ab", "apache2-utils")
    head = f"""## Load: `ab -k -c {CONNECTIONS} -n {REQUESTS}`

Made by `make load` ({machine()}): `POST /predict`, one row, validation and records on, the server on core
{SERVER_CORE}, ab on core {CLIENT_CORE}. The bars are the founding design's targets.
"""
    with tempfile.TemporaryDirectory() as name:
        loads = {workload.name: load(workload, Path(name)) for workload in workloads(Path(name))}
    bars = [bar for workload, measured in loads.items() for bar in bars_of(workload, measured)]
    rows = [
        [name, f"{one.per_second:,.0f}", f"{one.p50_ms:.0f}", f"{one.p95_ms:.0f}", f"{one.p99_ms:.0f}", one.failed]
        for name, one in loads.items()
    ]
    figures = table(["model", "requests/s", "p50 ms", "p95 ms", "p99 ms", "failed"], rows)
    text = "\n".join([head, figures, bars_table(bars)])
    print(text)
    if said.write:
        write_part(PERFORMANCE, "make load", text)
    sys.exit(0 if all(bar.is_met for bar in bars) else 1)


def load(workload: Workload, scratch: Path) -> Load:
    """Run ab once against a server of its own."""
    target = penstock_target(workload, free_port(), scratch / f"home-{workload.bundle.manifest.name}")
    body = scratch / "body.json"
    body.write_bytes(msgspec.json.encode({"features": workload.row}))
    url = f"http://127.0.0.1:{target.port}/predict"
    command = ["taskset", "-c", str(CLIENT_CORE), "ab", "-q", "-k", "-l", f"-c{CONNECTIONS}", f"-n{REQUESTS}"]
    with serving(target.command, output=scratch / "server.log", answers=target.answers):
        target.check(workload.expected)
        done = subprocess.run(
            [*command, "-T", "application/json", "-p", str(body), url], capture_output=True, text=True, check=True
        )
    return load_of(done.stdout)


def load_of(text: str) -> Load:
    """The figures in what ab printed. With `-l` a reply of another length (latency_ms has digits) is no failure."""
    failed = int(_found(r"Failed requests:\s+(\d+)", text))
    refused = re.search(r"Non-2xx responses:\s+(\d+)", text)
    return Load(
        answered=int(_found(r"Complete requests:\s+(\d+)", text)),
        failed=failed + (int(refused.group(1)) if refused else 0),
        per_second=float(_found(r"Requests per second:\s+([\d.]+)", text)),
        p50_ms=float(_found(r"\b50%\s+(\d+)", text)),
        p95_ms=float(_found(r"\b95%\s+(\d+)", text)),
        p99_ms=float(_found(r"\b99%\s+(\d+)", text)),
    )


def bars_of(name: str, measured: Load) -> list[Bar]:
    """The founding targets."""
    return [
        Bar(f"p95, {name}", Spread.of([measured.p95_ms]), P95_MS, "ms", most=True),
        Bar(f"error rate, {name}", Spread.of([measured.error_rate]), ERROR_RATE, "%", most=True),
        Bar(f"requests/s, {name}", Spread.of([measured.per_second]), PER_SECOND, ""),
    ]


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"ab printed no figures: {text[:500]}")
    return found.group(1)


if __name__ == "__main__":
    main()
