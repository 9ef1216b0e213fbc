"""`make soak`: ten minutes at 70 % of what the server can do: no error, memory flat, the audit log whole.

The capacity is measured first, in a closed loop; then an open loop sends evenly at 70 % of it. Memory of every process
is sampled each second; the slope is the least-squares line through the samples after the first fifth, in which caches
fill and the allocator finds its size. Afterwards the server is stopped and every segment of the audit log is verified:
the chain is whole, and it has a record of every answer. Exit code 1 if a request failed, a record is missing, or the
slope is over the bound. `SOAK_S=60 make soak` makes it shorter; under two minutes the slope is printed, but not judged.
`--write` keeps the result in docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

import msgspec

from openloop import Order, Paced, open_loop
from penstock.audit import verify
from processes import Running, end_in_order, family, free_port, memory_of, serving
from report import PERFORMANCE, machine, table, write_part
from targets import Target, penstock_target
from workloads import workloads
from wrk import require, wrk

SHARE = 0.7
PIECE_S = 30.0
JUDGED_S = 120.0
SLOPE_KIB_MIN = 200.0
"""Bound of the growth, for all processes together: at this pace a week takes 2 GiB, so a leak a request is far over
(one byte a request would be 700 KiB a minute at 12,000 requests/s), and what is left is a line through noise."""


class Sample(msgspec.Struct, frozen=True):
    """Memory of one process at a time since the beginning."""

    at_s: float
    pid: int
    own_kib: float
    pss_kib: float
    rss_kib: float


class Memories(threading.Thread):
    """Samples the memory of a server's processes each second until it is told to stop."""

    def __init__(self, running: Running) -> None:
        super().__init__(daemon=True)
        self._running = running
        self._stop_asked = threading.Event()
        self._began_s = time.monotonic()
        self.samples: list[Sample] = []

    def run(self) -> None:
        while not self._stop_asked.wait(1.0):
            at_s = time.monotonic() - self._began_s
            for pid in family(self._running.pid):
                held = memory_of(pid)
                kib = (held.own_mib * 1024, held.pss_mib * 1024, held.rss_mib * 1024)
                self.samples.append(Sample(at_s, pid, *kib))

    def end(self) -> None:
        """Returns when the last sample is in."""
        self._stop_asked.set()
        self.join()


def main() -> None:
    """Soak, judge, print, and with `--write` keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SOAK_S", "600")))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the part of docs/performance.md")
    said = parser.parse_args()
    end_in_order()
    require("wrk", "wrk")
    with tempfile.TemporaryDirectory() as name:
        text, is_good = soak(Path(name), said.seconds, said.workers)
    print(text)
    if said.write:
        write_part(PERFORMANCE, "make soak", text)
    sys.exit(0 if is_good else 1)


def soak(scratch: Path, seconds: float, workers: int) -> tuple[str, bool]:
    """The report, and whether all is well."""
    workload = workloads(scratch)[0]
    home = scratch / "home"
    target = penstock_target(workload, free_port(), home, workers=workers)
    with serving(target.command, output=scratch / "server.log", answers=target.answers) as running:
        target.check(workload.expected)
        closed = wrk(target.url, target.body, seconds=5, connections=64, scratch=scratch)
        running.settle()
        memories = Memories(running)
        memories.start()
        pieces = _pieces(target, closed.per_second * SHARE, seconds)
        memories.end()
    faults, verified = _faults(pieces, memories.samples, home, closed.answered)
    head = f"""## Soak

Made by `make soak` ({machine()}): {workload.name}, one row a request, {workers} worker(s), {seconds:,.0f} s in an open
loop, evenly, at {SHARE:.0%} of the {closed.per_second:,.0f} requests/s of a closed one.
"""
    memory = "memory flat" if seconds >= JUDGED_S else "too short to judge the memory's slope"
    verdict = f"Zero errors, every answer recorded, {memory}." if not faults else "**Not met**: " + "; ".join(faults)
    return "\n".join([head, _requests(pieces), _memory(memories.samples), verified, verdict, ""]), not faults


def _pieces(target: Target, rate: float, seconds: float) -> list[Paced]:
    """The open loop, half a minute at a time, so that its own memory does not grow."""
    found: list[Paced] = []
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0.5:
        order = Order(target.port, target.request, rate, min(PIECE_S, left_s), "even", seed=len(found))
        found.append(open_loop(order))
    return found


def slope_kib_min(samples: Sequence[tuple[float, float]]) -> float:
    """KiB a minute of the least-squares line through `(seconds, KiB)`."""
    if len(samples) < 2:
        return 0.0
    mean_s = sum(at for at, _ in samples) / len(samples)
    mean_kib = sum(held for _, held in samples) / len(samples)
    across = sum((at - mean_s) ** 2 for at, _ in samples)
    return 60 * sum((at - mean_s) * (held - mean_kib) for at, held in samples) / across


def _settled(samples: Sequence[Sample]) -> list[Sample]:
    """Those after the first fifth."""
    last_s = max((one.at_s for one in samples), default=0.0)
    return [one for one in samples if one.at_s > last_s / 5]


def _sums(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """`(seconds, KiB of anonymous memory of all processes)`."""
    at: dict[float, float] = {}
    for one in samples:
        at[one.at_s] = at.get(one.at_s, 0.0) + one.own_kib
    return sorted(at.items())


def _faults(
    pieces: Sequence[Paced], samples: Sequence[Sample], home: Path, answered_before: int
) -> tuple[list[str], str]:
    """What is wrong, and what the audit log says."""
    faults = []
    failed = sum(piece.failed for piece in pieces)
    if failed:
        faults.append(f"{failed} of {sum(piece.sent for piece in pieces)} requests failed")
    slope = slope_kib_min(_sums(_settled(samples)))
    if slope > SLOPE_KIB_MIN and samples[-1].at_s >= JUDGED_S - 5:
        faults.append(f"memory grows by {slope:,.0f} KiB a minute, at most {SLOPE_KIB_MIN:,.0f}")
    reports = [verify(path) for path in sorted((home / "audit").rglob("*.jsonl"))]
    records = sum(report.records for report in reports)
    faults += [f"{report.path.name}: {report.broken}" for report in reports if not report.is_intact]
    wanted = answered_before + sum(piece.answered for piece in pieces)
    if records < wanted:
        faults.append(f"{wanted:,} answers, but {records:,} records")
    return faults, f"Audit log: {len(reports)} segments verified, {records:,} records for {wanted:,} answers.\n"


def _requests(pieces: Sequence[Paced]) -> str:
    rows = [
        [f"{(n + 1) * PIECE_S:,.0f}", f"{one.sent:,}", one.failed, f"{one.per_second:,.0f}", f"{one.p50_ms:.2f}",
         f"{one.p99_ms:.2f}", f"{one.worst_ms:.1f}"]
        for n, one in enumerate(pieces)
    ]  # fmt: skip
    return table(["until s", "sent", "failed", "answered/s", "p50 ms", "p99 ms", "worst ms"], rows)


def _memory(samples: Sequence[Sample]) -> str:
    rows = []
    for number, pid in enumerate(dict.fromkeys(one.pid for one in samples)):
        own = [one for one in samples if one.pid == pid]
        cells = [
            f"{of(own[0]) / 1024:.1f} → {of(own[-1]) / 1024:.1f}, "
            f"{slope_kib_min([(one.at_s, of(one)) for one in _settled(own)]):+,.1f}"
            for of in (attrgetter("own_kib"), attrgetter("pss_kib"), attrgetter("rss_kib"))
        ]
        rows.append([f"process {number}", *cells])
    total = slope_kib_min(_sums(_settled(samples)))
    rows.append(["all", f"**{total:+,.1f}** (at most {SLOPE_KIB_MIN:,.0f})", "", ""])
    text = table(["", "anonymous", "PSS", "RSS"], rows)
    return f"Memory in MiB at first and at last, and its slope in KiB a minute:\n\n{text}"


if __name__ == "__main__":
    main()
