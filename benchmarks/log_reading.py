"""What sealing and searching the log cost: records sealed a second on one core, and queries over millions of them.

python benchmarks/log_reading.py [--records 5000000]      or: make bench-log

Records are those of a model of twelve fields, written by `AuditLog` in ticks of 16 into segments of 128 MB, two days of
them. Each query is asked in a process of its own, whose memory is measured; medians of 5 with the spread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.audit import AuditLog, Record
from penstock.audit.conditions import Conditions
from penstock.audit.query import Records
from penstock.audit.seal import Sealer
from penstock.audit.sealed import read_index
from report import Bar, Spread, bars_table, machine

ROUNDS = 5
TICK = 16
BEGIN = datetime(2026, 11, 19, tzinfo=UTC)
ASKED = {"id": 1.0, "aggregate": 5.0}
DAY = "arrived_at >= '2026-11-20' AND arrived_at < '2026-11-21'"
AGGREGATE = (
    "SELECT version, count(*), avg(total_ms), quantile_cont(total_ms, 0.99), avg(feature_age[1]), "
    f"avg(prediction_probability_yes[1]) FROM records WHERE {DAY} GROUP BY version"
)


def request_id(number: int, of: int) -> str:
    """Ids in the order of time, as ours are."""
    return f"{number * 10_000 // of:08x}-0000-7000-8000-{number:012x}"


def record(number: int, of: int, draw: random.Random) -> Record:
    """One answer; they are spread evenly over two days."""
    age = draw.randrange(18, 90)
    row = {"age": age, "region": draw.choice(("north", "south", "east", "west"))}
    return Record(
        kind="prediction",
        request_id=request_id(number, of),
        at=BEGIN + timedelta(days=2) * (number / of),
        model="churn",
        version=1 + number % 3,
        digest="sha256:" + "c" * 64,
        protocol="own",
        key=f"customer-{draw.randrange(100_000)}",
        input=[row | {f"x{place}": draw.random() for place in range(10)}],
        outputs=[{"label": "yes", "probabilities": {"no": 1 - age / 100, "yes": age / 100}}],
        rows=1,
        batch_rows=TICK,
        total_ms=draw.expovariate(1.0),
    )


async def write(audit: Path, count: int) -> None:
    """So many records, in ticks."""
    draw = random.Random(7)
    async with AuditLog(audit) as log:
        for number in range(count):
            log.append(record(number, count, draw))
            if number % TICK == 0:
                await asyncio.sleep(0)


def sealed_a_second(audit: Path) -> Spread:
    """Records a second of CPU time: of each segment, sealed on its own."""
    rates: list[float] = []
    began = [time.process_time()]
    done = 0

    def step(what: str) -> None:
        nonlocal done
        if what.startswith("remove"):  # of a segment, whose entry is written
            entries = read_index(audit)
            records = sum(entry.records for entry in entries)
            rates.append((records - done) / (time.process_time() - began[0]))
            done = records
            began[0] = time.process_time()

    Sealer(audit, step=step).seal()
    return Spread.of(rates)


def ask(audit: Path, what: str) -> dict[str, float]:
    """One query, in this process."""
    records = Records(audit)
    began = time.perf_counter()
    if what == "id":
        total = sum(entry.records for entry in read_index(audit))
        found = records.page(Conditions(request_id=request_id(total // 2, total)), 1)
    else:
        found = records.sql(AGGREGATE)
    took_s = time.perf_counter() - began
    if not len(found.table):
        raise SystemExit(f"the query `{what}` found nothing")
    return {"s": took_s, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def asked(audit: Path, what: str) -> dict[str, float]:
    """The same in a process of its own."""
    words = [sys.executable, __file__, "--ask", what, "--audit", str(audit)]
    found: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    return found


def main() -> None:
    """Write, seal, ask, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=5_000_000)
    options.add_argument("--ask", choices=list(ASKED))
    options.add_argument("--audit", type=Path)
    given = options.parse_args()
    if given.ask:
        print(json.dumps(ask(given.audit, given.ask)))
        return
    with tempfile.TemporaryDirectory() as home:
        audit = Path(home) / "audit"
        asyncio.run(write(audit, given.records))
        bars = [Bar(what="records sealed a second of CPU", measured=sealed_a_second(audit), asked=20_000, unit="")]
        for what, most_s in ASKED.items():
            answers = [asked(audit, what) for _ in range(ROUNDS)]
            seconds, memory = (Spread.of([answer[name] for answer in answers]) for name in ("s", "mb"))
            bars.append(Bar(what=f"query: {what}", measured=seconds, asked=most_s, unit="s", most=True))
            bars.append(Bar(what=f"memory of it, MB: {what}", measured=memory, asked=1000, unit="", most=True))
        files = [file for entry in read_index(audit) for file in entry.files]
        print(machine())
        print(f"{given.records:,} records in {len(files)} files of {sum(f.size_bytes for f in files) / 1e6:,.0f} MB")
        print(bars_table(bars))


if __name__ == "__main__":
    main()
