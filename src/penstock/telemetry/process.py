"""The `process_*` metrics of this process, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.telemetry.metrics import FamilyState, Merge, MetricKind


def process_state(labels: dict[str, str] | None = None, *, proc: Path = Path("/proc")) -> list[FamilyState]:
    """The `process_*` metrics of this process under `labels` (`worker`), from /proc; empty where there is none.

    Put them into a registry by `merge`, or into text by `family_text`. Names as the Prometheus guidelines have them:
    resident bytes, CPU seconds, start time in Unix seconds, open files.
    """
    try:
        # The name of the command, field 2, stands in parentheses and may hold spaces: count from behind it.
        fields = (proc / "self/stat").read_text().rpartition(")")[2].split()
        boot_s = next(int(line.split()[1]) for line in (proc / "stat").read_text().splitlines() if "btime" in line)
        open_fds = len(list((proc / "self/fd").iterdir()))
    except OSError:
        return []
    ticks = os.sysconf("SC_CLK_TCK")
    user, system, start, resident_pages = (int(fields[at]) for at in (11, 12, 19, 21))
    resident_bytes = resident_pages * os.sysconf("SC_PAGE_SIZE")
    numbers: list[tuple[str, MetricKind, str, float, Merge]] = [
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident_bytes, "sum"),
        (
            "process_cpu_seconds_total",
            "counter",
            "User and system CPU time in seconds.",
            (user + system) / ticks,
            "sum",
        ),
        ("process_start_time_seconds", "gauge", "Start time since the Unix epoch.", boot_s + start / ticks, "max"),
        ("process_open_fds", "gauge", "Number of open file descriptors.", open_fds, "sum"),
    ]
    names, values = tuple(labels or ()), tuple((labels or {}).values())
    return [
        FamilyState(name, kind, help, names, (), [(values, [number])], merge)
        for name, kind, help, number, merge in numbers
    ]
