"""One piece of work on a log, in a process that does nothing else: `log_reading.py` starts it and reads what it took.

python benchmarks/log_asked.py AUDIT seal|aggregate|id [ID]
"""

from __future__ import annotations

import os
import re
import sys
import time
from datetime import timedelta
from pathlib import Path

import msgspec

from log_records import ASKED_DAY
from penstock.audit.conditions import Conditions
from penstock.audit.query import Records
from penstock.audit.seal import Sealer
from processes import SERVER_CORE

AGGREGATE = (
    "SELECT version, count(*) AS calls, avg(total_ms), quantile_cont(total_ms, 0.99), avg(feature_age[1]), "
    f"avg(prediction_probability_yes[1]) FROM records WHERE arrived_at >= '{ASKED_DAY}' "
    f"AND arrived_at < '{ASKED_DAY + timedelta(days=1)}' GROUP BY version"
)


class Took(msgspec.Struct, frozen=True):
    """How many records the work was about, and what it took, imports apart. `peak_mb`: resident memory at most."""

    found: int
    wall_s: float
    cpu_s: float
    peak_mb: float


def done(audit: Path, what: str, *words: str) -> int:
    """Do the work; how many records were sealed or found. Sealing that leaves a segment has found none."""
    if what == "seal":
        sealed = Sealer(audit).seal()
        return 0 if sealed.problems else sealed.records
    if what == "id":
        return len(Records(audit).page(Conditions(request_id=words[0]), 1).table)
    return sum(Records(audit).sql(AGGREGATE).table["calls"].to_pylist())


def main() -> None:
    """Do what the command line says, and print what it took."""
    audit, what, *words = sys.argv[1:]
    if what == "seal":
        os.sched_setaffinity(0, {SERVER_CORE})
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    found = done(Path(audit), what, *words)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    if not found:
        raise SystemExit(f"`{what}` found nothing, or left something")
    print(msgspec.json.encode(Took(found, wall_s, cpu_s, _peak_mb())).decode())


def _peak_mb() -> float:
    """Not `ru_maxrss`: that counts what the process held before it became this program, too."""
    [kib] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kib) * 1024 / 1e6


if __name__ == "__main__":
    main()
