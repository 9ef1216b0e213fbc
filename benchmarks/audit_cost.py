"""What a record costs on the hot path: microseconds per record by stage, at ticks of 1 and 16 records, on a real file.

Run: python benchmarks/audit_cost.py [directory]. Medians of 5 with the spread; the file goes to a temporary directory.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from penstock.audit import (
    Answered,
    AuditLog,
    Masker,
    Pseudonyms,
    Record,
    RequestIds,
    opening_of,
    recover,
    verify,
)
from penstock.audit.commitment import Salts
from penstock.audit.record import Lines
from penstock.schema import Check, Field, Schema
from penstock.telemetry import Registry

NAMES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
SCHEMA = Schema(fields=tuple(Field(name=name, type="float") for name in NAMES))
PERSONAL = msgspec.structs.replace(SCHEMA, fields=(*SCHEMA.fields[:3], Field(name="who", type="float", pii="person")))
ROUNDS = 5


def spread(name: str, run: Callable[[], int]) -> None:
    """Print the median, least and largest time of `run` per unit; `run` returns how many units it did."""
    times_us = []
    for _ in range(ROUNDS):
        start_ns = time.perf_counter_ns()
        units = run()
        times_us.append((time.perf_counter_ns() - start_ns) / units / 1000)
    print(f"{name:<58} {statistics.median(times_us):8.3f}   ({min(times_us):.3f} to {max(times_us):.3f})")


def repeated(call: Callable[[], object], times: int = 100_000) -> Callable[[], int]:
    """`call`, many times."""

    def run() -> int:
        for _ in range(times):
            call()
        return times

    return run


def sample_rows(schema: Schema) -> list[msgspec.Struct]:
    """One checked row of four columns."""
    row = Check(schema).row
    return [row(5.1, 3.5, 1.4, 0.2)]


def sample_record(ids: RequestIds, rows: object) -> Record:
    """A prediction as the hot path makes it."""
    return Record(
        kind="prediction",
        request_id=ids.next(),
        at=datetime.now(UTC),
        model="iris",
        version="1",
        digest="9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
        protocol="penstock",
        input=rows,
        outputs=[{"label": 1, "probabilities": {"0": 0.0, "1": 0.98, "2": 0.02}}],
        rows=1,
        batch_rows=3,
        queue_ms=0.011,
        run_ms=0.021,
        total_ms=0.055,
    )


def sample_answer(ids: RequestIds) -> Answered:
    """The same as the hot path makes it for an answered call."""
    return Answered(ids.next(), ids.at, 1, 3, 0.011, 0.021, 0.055)


OUTPUTS = b'[{"label":1,"probabilities":{"0":0.0,"1":0.98,"2":0.02}}]'
OPENING = opening_of(model="iris", version=1, digest="9c56cc51b374c3ba18921" * 3, protocol="penstock")


def stages() -> None:
    """The parts of a record, each for itself."""
    ids, rows = RequestIds(), sample_rows(SCHEMA)
    record = sample_record(ids, rows)
    missing = sample_record(ids, [{"a": None, "b": 1.5}])
    answer = sample_answer(ids)
    salts, secret = Salts(), Pseudonyms(b"secret")
    lines = Lines(salts, 1_000_000)

    def encode(what: Record) -> None:
        lines.written.clear()
        lines.covered.clear()
        lines.add(what)

    def encode_answer() -> None:
        lines.written.clear()
        lines.covered.clear()
        lines.add_answer(answer, OPENING, rows, OUTPUTS)

    spread("request id", repeated(ids.next))
    spread("Answered(...) with id", repeated(lambda: sample_answer(ids)))
    spread("Lines.add_answer, four columns", repeated(encode_answer))
    print(f"{'bytes of the line':<58} {len(b''.join(lines.written)):8d}")
    spread("Lines.add of a whole Record", repeated(lambda: encode(record)))
    spread("Lines.add, a missing value in the row", repeated(lambda: encode(missing)))
    spread("a pseudonym", repeated(lambda: secret.of_key("customer-17")))
    spread("Masker.rows, no pii class", repeated(lambda: Masker.rows(plain, rows)))
    personal_rows = sample_rows(PERSONAL)
    spread("Masker.rows, one field of four with a pii class", repeated(lambda: Masker.rows(personal, personal_rows)))
    child = Registry().counter("a_total", "A.").child()
    histogram = Registry().histogram("b_seconds", "B.").child()
    spread("Counter.inc", repeated(child.inc))
    spread("Histogram.observe", repeated(lambda: histogram.observe(0.0003)))


plain, personal = Masker(SCHEMA), Masker(PERSONAL)


async def ticks(directory: Path, tick_rows: int) -> None:
    """append + on_flushed + flush with the real write, called as the loop would; and the same through the loop."""
    ids, rows = RequestIds(), sample_rows(SCHEMA)
    answer = sample_answer(ids)
    async with AuditLog(directory) as log:

        def answered(_: Exception | None) -> None:
            return None

        def tick() -> None:
            for _ in range(tick_rows):
                log.append_answer(answer, OPENING, rows, OUTPUTS)
                log.on_flushed(answered)
            log.flush()

        log._is_scheduled = True  # the flush is called here, not by the loop

        def run() -> int:
            for _ in range(50_000 // tick_rows):
                log._is_scheduled = True
                tick()
            return 50_000 // tick_rows * tick_rows

        spread(f"append, on_flushed, flush; ticks of {tick_rows}", run)


def reading(directory: Path) -> None:
    """How fast segments are verified, and recovered at a start after a clean stop."""
    paths = list(directory.glob("worker-*/*.jsonl"))
    start_s = time.perf_counter()
    reports = [verify(path) for path in paths]
    taken_s = time.perf_counter() - start_s
    print(f"{'verify, us per record':<58} {taken_s / sum(report.records for report in reports) * 1e6:8.3f}")
    print(f"{'verify, MB per second':<58} {sum(report.good_bytes for report in reports) / taken_s / 1e6:8.0f}")
    start_s = time.perf_counter()
    recover(directory)
    print(f"{f'recover, {len(paths)} whole segments, ms':<58} {(time.perf_counter() - start_s) * 1000:8.3f}")


def main() -> None:
    """Print the table."""
    print(f"{'us per call or record':<58}   median   (least to largest of {ROUNDS})")
    stages()
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        for tick_rows in (1, 16, 64):
            asyncio.run(ticks(Path(name), tick_rows))
        reading(Path(name))


if __name__ == "__main__":
    main()
