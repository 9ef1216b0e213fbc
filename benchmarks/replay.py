"""What replay does a second on one core, and whether the same version answers 100,000 recorded rows the same.

python benchmarks/replay.py [--rows 100000] [--write]      or: make bench-replay

The 12-column pipeline of 200 trees, its log written by `AuditLog`, once with one row a call and once with 16. Each
replay runs in a process of its own on one core, as `penstock audit replay` does it, with its saves; loading the model
is not in the time. A second is one of that core (CPU time). Medians of 5 with the spread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from penstock.audit import AuditLog, Record
from penstock.bundle.pack import PackOptions, pack
from penstock.demo.data import churn_pipeline, customers
from penstock.jobs.replay import Question, Replay
from penstock.runtime.model import Model, open_model
from report import PERFORMANCE, Bar, Spread, bars_table, machine, write_part

ROUNDS = 5
ASKED = 50_000
WIDTHS = (1, 16)
BEGIN = datetime(2026, 11, 20, tzinfo=UTC)


class Round(msgspec.Struct, frozen=True):
    """One replay: rows a second of its core's time, and of the clock (what else runs here slows that); of each row the
    model's own run, by the clock; how many answers were the same to the bit.
    """

    rows_s: float
    wall_rows_s: float
    run_us: float
    pairs: int
    bit_for_bit: int
    is_identical: bool


def packed(directory: Path) -> Path:
    """The bundle of the 12-column pipeline."""
    table, left = customers(6000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = PackOptions(threshold_budget=200)
        sample = table.drop(columns="signed_up")
        return pack(churn_pipeline().fit(table, left), name="churn", sample=sample, out=directory, options=options).path


async def write(home: Path, model: Model, rows: int, width: int) -> None:
    """So many rows and their answers, in calls of `width` rows and ticks of 16 calls."""
    table = customers(rows, seed=11)[0].drop(columns="signed_up")
    checked = model.check.from_objects(table.to_dict("records")).rows  # type: ignore[arg-type]  # of pandas: keys of any kind
    async with AuditLog(home / "audit") as log:
        for number, start in enumerate(range(0, rows, width)):
            part = checked[start : start + width]
            log.append(
                Record(
                    kind="prediction",
                    request_id=f"{number:08x}-0000-7000-8000-000000000000",
                    at=BEGIN + timedelta(milliseconds=number),
                    model=model.name,
                    version=1,
                    digest=model.digest,
                    protocol="penstock",
                    input=part,
                    outputs=model.score(part),
                    rows=len(part),
                    batch_rows=len(part),
                    run_ms=1.0,
                )
            )
            if number % 16 == 0:
                await asyncio.sleep(0)


def replay(home: Path, bundle: Path) -> Round:
    """One replay, in this process, on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    model = open_model(bundle)
    question = Question(model=model.name, version=1, digest=model.digest, is_identical=True)
    began_s = time.process_time()
    report = Replay(home, question, model, again=True).run()
    cpu_s = time.process_time() - began_s
    result = report.result
    return Round(
        rows_s=result.pairs / cpu_s,
        wall_rows_s=result.pairs / report.took_s,
        run_us=result.run_us or 0.0,
        pairs=result.pairs,
        bit_for_bit=result.identity.bit_for_bit,
        is_identical=report.is_identical,
    )


def measured(home: Path, bundle: Path) -> Round:
    """The same in a process of its own."""
    words = [sys.executable, __file__, "--home", str(home), "--bundle", str(bundle)]
    return msgspec.json.decode(subprocess.run(words, check=True, capture_output=True).stdout, type=Round)


def main() -> None:
    """Write the logs, replay, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--write", action="store_true", help="also into docs/performance.md")
    options.add_argument("--home", type=Path)
    options.add_argument("--bundle", type=Path)
    given = options.parse_args()
    if given.home is not None:
        print(json.dumps(msgspec.to_builtins(replay(given.home, given.bundle))))
        return
    said = [f"Measured by `make bench-replay`: {machine()}.\n"]
    with tempfile.TemporaryDirectory() as directory:
        bundle = packed(Path(directory))
        model = open_model(bundle)
        bars = []
        for width in WIDTHS:
            home = Path(directory) / f"home-{width}"
            asyncio.run(write(home, model, given.rows, width))
            rounds = [measured(home, bundle) for _ in range(ROUNDS)]
            rates = Spread.of([one.rows_s for one in rounds])
            what = f"rows replayed a second of one core, {'one row' if width == 1 else f'{width} rows'} a call"
            bars.append(Bar(what=what, measured=rates, asked=ASKED, unit=""))
            last = rounds[-1]
            proof = (
                "identical, bit for bit" if last.is_identical and last.bit_for_bit == last.pairs else "NOT identical"
            )
            runs, walls = Spread.of([one.run_us for one in rounds]), Spread.of([one.wall_rows_s for one in rounds])
            said.append(
                f"- {width} row{'s' if width > 1 else ''} a call: {last.pairs:,} rows, {proof} "
                f"({last.bit_for_bit:,} to the last bit); of each row {runs.text('.1f')} µs are the model's own "
                f"run; by the clock {walls.text()} rows/s.\n"
            )
    said.append(f"\n{bars_table(bars)}")
    text = "".join(said)
    print(text)
    if given.write:
        write_part(PERFORMANCE, "replay", f"## Replay\n\n{text}")


if __name__ == "__main__":
    main()
