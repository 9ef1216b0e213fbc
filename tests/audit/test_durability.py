"""The durability classes: when the answers leave, what a failing disk means, and what a kill may take."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loads import wait_for
from penstock.audit import AsyncBound, AuditLog, Durability, Record, Unwritten, read_records, recover, unwritten, verify
from penstock.audit.segment import SegmentWriter
from penstock.errors import RecordFailed, SegmentError

AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)
BOUND = 400


def record(name: str = "r") -> Record:
    """A small record."""
    return Record(kind="prediction", request_id=name, at=AT, input=[{"a": 1.5}])


def written(directory: Path) -> list[int]:
    """The numbers of all committed records below a directory, in the order of its segments."""
    return [one.seq for path in sorted(directory.glob("worker-*/*.jsonl")) for one in read_records(path)]


async def turns(count: int = 3) -> None:
    """Some ticks of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_off_writes_nothing(tmp_path: Path) -> None:
    """Calls are answered, and there is no file."""

    async def main() -> str:
        async with AuditLog(tmp_path / "audit", durability="off") as log:
            await log.flushed(log.append(record()))
            assert (0, 0, None) == (log.recorded, log.dropped, log.place)
            return log.where

    assert "none are kept (audit.durability is off)" == asyncio.run(main())
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("durability", ["async", "fsync"])
def test_everything_is_written_at_the_end(tmp_path: Path, durability: Durability) -> None:
    """A log that is closed has every record once, over several segments, and nothing else is left in its directory."""

    async def main() -> tuple[int, int]:
        async with AuditLog(
            tmp_path, durability=durability, segment_bytes=4000, async_bound=AsyncBound(ms=60_000)
        ) as log:
            for _ in range(300):
                log.append(record())
                await asyncio.sleep(0)
        return log.recorded, log.dropped

    assert (300, 0) == asyncio.run(main())
    assert list(range(1, 301)) == written(tmp_path)
    assert {".jsonl"} == {path.suffix for path in tmp_path.glob("worker-0/*")}


def test_fsync_answers_after_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer leaves before a sync that began after its write; those of many ticks leave after one."""
    order: list[str] = []
    sync = SegmentWriter.sync

    def told(segment: SegmentWriter) -> None:
        order.append("sync")
        sync(segment)
        order.append("synced")

    async def main() -> None:
        async with AuditLog(tmp_path, durability="fsync") as log:
            for tick in range(40):
                log.append(record())
                log.on_flushed(lambda error, tick=tick: order.append(f"answer {tick} {error}"))  # type: ignore[misc]
                await asyncio.sleep(0)

    monkeypatch.setattr(SegmentWriter, "sync", told)
    asyncio.run(main())
    assert [f"answer {tick} None" for tick in range(40)] == [word for word in order if word.startswith("answer")]
    first = order.index("answer 0 None")
    assert ["sync", "synced"] == order[:2] and first >= 2
    last = order.index("answer 39 None")
    assert "synced" in order[order.index("answer 0 None") : last]


def test_a_failed_sync_is_not_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls whose records the disk does not confirm fail, are counted, and the log goes on in a new segment."""
    answers: list[type] = []
    sync, failing = SegmentWriter.sync, [True]

    def fail(segment: SegmentWriter) -> None:
        if failing:
            raise SegmentError(f"Expected to bring {segment.path} to the disk, but: Input/output error")
        sync(segment)

    async def main() -> tuple[int, int]:
        async with AuditLog(tmp_path, durability="fsync") as log:
            log.append(record())
            log.on_flushed(lambda error: answers.append(type(error)))
            while not answers:
                await asyncio.sleep(0)
            failing.clear()
            await log.flushed(log.append(record()))
            return int(log._accounts.unsynced.value), log.recorded

    monkeypatch.setattr(SegmentWriter, "sync", fail)
    assert (1, 2) == asyncio.run(main())
    assert [RecordFailed] == answers
    assert ([1, 2], 2) == (written(tmp_path), len(list(tmp_path.glob("worker-0/*.jsonl"))))


def test_async_answers_at_once(tmp_path: Path) -> None:
    """Answers leave while the thread still waits for more records; how many are on their way is seen from outside."""

    async def main() -> None:
        async with AuditLog(tmp_path, durability="async", async_bound=AsyncBound(ms=60_000)) as log:
            for _ in range(5):
                await log.flushed(log.append(record()))
            assert [] == written(tmp_path)
            assert [Unwritten(run=log.run, records=5, dropped=0, is_alive=True)] == unwritten(
                tmp_path, [verify(log.path)]
            )
            assert log.place is not None
            assert 5 == log.place.answered

    asyncio.run(main())
    assert [1, 2, 3, 4, 5] == written(tmp_path)


def test_async_writes_in_time_and_by_number(tmp_path: Path) -> None:
    """Records are written when half of the bound wait, or when the time is over."""

    async def main(name: str, async_ms: int, count: int) -> None:
        async with AuditLog(tmp_path / name, durability="async", async_bound=AsyncBound(100, async_ms)) as log:
            for _ in range(count):
                log.append(record())
            await turns()
            await asyncio.to_thread(wait_for, lambda: len(written(tmp_path / name)) == count)

    asyncio.run(main("number", 60_000, 50))
    asyncio.run(main("time", 1, 3))


def test_async_drops_what_a_slow_disk_cannot_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the disk standing still no more than the bound waits; the rest is counted, and the log tells of the gap."""
    gate, write = [True], SegmentWriter.write

    def slow(segment: SegmentWriter, *args: list[bytes], **numbers: int) -> None:
        wait_for(lambda: not gate)
        write(segment, *args, **numbers)

    async def main() -> tuple[int, int]:
        async with AuditLog(tmp_path, durability="async", async_bound=AsyncBound(100, 1)) as log:
            monkeypatch.setattr(SegmentWriter, "write", slow)
            for _ in range(30):
                for _ in range(10):
                    seq = log.append(record())
                await log.flushed(seq)
            gate.clear()
        return log.recorded, log.dropped

    assert (100, 200) == asyncio.run(main())
    [report] = map(verify, tmp_path.glob("worker-0/*.jsonl"))
    assert (None, 100, 200, 301) == (report.broken, report.records, report.dropped, report.next)


# Appends in ticks of 1 to 8 records, and says each number to its parent once its call may be answered.
WRITER = f"""
    import asyncio, os, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from penstock.audit import AsyncBound, AuditLog, Record

    record = Record(kind="prediction", request_id="r", at=datetime.now(UTC), input=[{{"text": "x" * 300}}])

    async def main():
        options = dict(durability=sys.argv[2], segment_bytes=100_000, async_bound=AsyncBound({BOUND}, 20))
        async with AuditLog(Path(sys.argv[1]), **options) as log:
            tick = 0
            while True:
                tick += 1
                for _ in range(1 + tick % 8):
                    seq = log.append(record)
                    log.on_flushed(lambda error, seq=seq: error is None and os.write(1, b"%d\\n" % seq))
                await asyncio.sleep(0)

    asyncio.run(main())
"""


def killed(directory: Path, durability: str, after: int) -> list[int]:
    """The numbers that a writer told before it was killed, which is after some of them."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(directory), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split(b"\n")[:-1]
    return told + [int(line) for line in rest]


ROUNDS = int(os.environ.get("PENSTOCK_TEST_ROUNDS", "5"))


def test_a_kill_with_fsync_loses_nothing(tmp_path: Path) -> None:
    """Each number that was told is recorded exactly once, and the chain verifies."""
    chance = random.Random(20261120)
    for number in range(ROUNDS):
        directory = tmp_path / str(number)
        told = killed(directory, "fsync", chance.randint(1, 1000))
        recover(directory)
        count = Counter(written(directory))
        assert [] == [seq for seq in told if count[seq] != 1]
        assert {1} == set(count.values())


def test_a_kill_with_async_loses_no_more_than_the_bound(tmp_path: Path) -> None:
    """What was told and is not recorded is at most the bound; it is seen before and after recovery, which says it once
    in the segment.
    """
    chance = random.Random(20261121)
    for number in range(ROUNDS):
        directory = tmp_path / str(number)
        told = killed(directory, "async", chance.randint(1, 4000))
        reports = [verify(path) for path in directory.glob("worker-0/*.jsonl")]
        seen = [(one.records, one.is_alive) for one in unwritten(directory, reports)]
        recover(directory)
        assert [] == recover(directory)
        reports = [verify(path) for path in directory.glob("worker-0/*.jsonl")]
        lost = sum(report.lost for report in reports)
        dropped = sum(report.dropped for report in reports)
        found = written(directory)
        assert len(found) == len(set(found))
        assert len(set(told) - set(found)) <= lost + dropped
        assert lost <= BOUND
        assert seen in ([(lost, False)], [] if lost == 0 else None)
        assert max(report.next for report in reports) - 1 == len(found) + lost + dropped
        assert [None] * len(reports) == [report.broken for report in reports]
        assert [] == unwritten(directory, reports)
