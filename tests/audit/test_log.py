"""The log on an event loop: one write per tick, callbacks after it, rotation, failures, clocks."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.audit import AuditLog, Record, broken_links, read_records, verify
from penstock.errors import RecordFailed, SegmentError
from penstock.telemetry import Registry

AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)


def record(name: str = "r") -> Record:
    """A small record."""
    return Record(kind="prediction", request_id=name, at=AT, input=[{"a": 1.5}], outputs={"label": 1})


def segments(directory: Path) -> list[Path]:
    """All segments below an audit directory, oldest first by their headers."""
    reports = [verify(path) for path in directory.glob("worker-*/*.jsonl")]
    return [r.path for r in sorted(reports, key=lambda r: (r.header.run, r.header.index) if r.header else ("", 0))]


def names(path: Path) -> list[str]:
    """The request ids of the committed records."""
    return [one.request_id for one in read_records(path)]


def run_child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own; it must exit with 0."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)


def test_records_of_a_tick_are_one_write(tmp_path: Path) -> None:
    """All records appended in one tick share one commit line; the next tick has its own."""

    async def main() -> Path:
        async with AuditLog(tmp_path) as log:
            for name in "abc":
                seq = log.append(record(name))
            await log.flushed(seq)
            await log.flushed(log.append(record("d")))
            return log.path

    path = asyncio.run(main())
    kinds = ["commit" if line.startswith(b'{"commit"') else "other" for line in path.read_bytes().splitlines()]
    assert ["other", "commit", "other", "other", "other", "commit", "other", "commit"] == kinds
    assert ["a", "b", "c", "d"] == names(path)
    assert [1, 2, 3, 4] == [one.seq for one in read_records(path)]


def test_callbacks_come_in_order_after_the_write(tmp_path: Path) -> None:
    """No callback runs before its record can be read from the file, and they run in the order of registration."""
    seen: list[tuple[str, list[str], Exception | None]] = []

    async def main() -> None:
        async with AuditLog(tmp_path) as log:

            def note(name: str) -> Callable[[Exception | None], None]:
                return lambda error: seen.append((name, names(log.path), error))

            log.append(record("a"))
            log.on_flushed(note("a"))
            log.append(record("b"))
            log.on_flushed(note("b"))
            before = list(seen)
            await log.flushed(log.append(record("c")))
            assert [] == before

    asyncio.run(main())
    assert [("a", ["a", "b", "c"], None), ("b", ["a", "b", "c"], None)] == seen


def test_a_callback_may_append(tmp_path: Path) -> None:
    """A record appended by a callback goes into the next write, and its callback comes after that."""
    order: list[str] = []

    async def main() -> Path:
        async with AuditLog(tmp_path) as log:
            done = asyncio.get_running_loop().create_future()

            def second(error: Exception | None) -> None:
                order.extend(names(log.path))
                done.set_result(error)

            def first(_: Exception | None) -> None:
                order.extend(names(log.path))
                log.append(record("b"))
                log.on_flushed(second)

            log.append(record("a"))
            log.on_flushed(first)
            await done
            return log.path

    asyncio.run(main())
    assert ["a", "a", "b"] == order


def test_a_failing_callback_stops_no_other(tmp_path: Path) -> None:
    """What a callback raises goes to the loop's exception handler; the callbacks after it run."""
    caught: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context["exception"]))
        async with AuditLog(tmp_path) as log:
            seq = log.append(record())
            log.on_flushed(lambda _: [].pop())  # raises IndexError
            await log.flushed(seq)

    asyncio.run(main())
    assert [IndexError] == [type(error) for error in caught]


def test_waiting_is_for_records_of_the_tick(tmp_path: Path) -> None:
    """`flushed` of a record that is not waiting to be written is refused, not silently granted."""

    async def main() -> None:
        async with AuditLog(tmp_path) as log:
            seq = log.append(record())
            await log.flushed(seq)
            for wrong in (0, seq, seq + 1):
                with pytest.raises(ValueError, match=f"got seq {wrong}"):
                    await log.flushed(wrong)

    asyncio.run(main())


def test_a_cancelled_wait_harms_nothing(tmp_path: Path) -> None:
    """When the waiting task is cancelled, the record is written all the same, and no callback fails over it."""
    caught: list[Any] = []

    async def main() -> Path:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
        async with AuditLog(tmp_path) as log:

            async def call() -> None:
                await log.flushed(log.append(record("a")))

            task = asyncio.create_task(call())
            await asyncio.sleep(0)  # it has appended and waits; the flush comes in the next tick
            task.cancel()
            await log.flushed(log.append(record("b")))
            return log.path

    assert ["a", "b"] == names(asyncio.run(main()))
    assert [] == caught


def test_closing_writes_what_is_waiting(tmp_path: Path) -> None:
    """`close` flushes and calls back; afterwards an append is refused."""
    answered: list[Exception | None] = []

    async def main() -> Path:
        log = AuditLog(tmp_path)
        log.open(asyncio.get_running_loop())
        log.append(record("a"))
        log.on_flushed(answered.append)
        log.close()
        with pytest.raises(SegmentError, match="open"):
            log.append(record("b"))
        return log.path

    assert ["a"] == names(asyncio.run(main()))
    assert [None] == answered


def test_segments_are_private_files(tmp_path: Path) -> None:
    """A segment has mode 0600 in a directory of mode 0700, below the worker's number."""

    async def main() -> Path:
        async with AuditLog(tmp_path / "audit", worker=3) as log:
            return log.path

    path = asyncio.run(main())
    assert ("worker-3", 0o600, 0o700) == (
        path.parent.name,
        stat.S_IMODE(path.stat().st_mode),
        stat.S_IMODE(path.parent.stat().st_mode),
    )


def test_rotation_goes_on_with_numbers_and_chain(tmp_path: Path) -> None:
    """Above its size a segment is followed by a new one that names the head of the last; no number is missing."""

    async def main() -> None:
        async with AuditLog(tmp_path, segment_bytes=1500) as log:
            for _ in range(40):
                await log.flushed(log.append(record()))

    asyncio.run(main())
    paths = segments(tmp_path)
    reports = [verify(path) for path in paths]
    assert len(paths) > 2
    assert list(range(1, 41)) == [one.seq for path in paths for one in read_records(path)]
    assert [] == broken_links(reports)
    assert [None, *(report.head for report in reports[:-1])] == [r.header.prev for r in reports if r.header]


def test_a_missing_or_shortened_segment_shows(tmp_path: Path) -> None:
    """A segment of a run that is missing, or cut at a commit line, is named by the segment after it."""

    async def main() -> None:
        async with AuditLog(tmp_path, segment_bytes=1500) as log:
            for _ in range(20):
                await log.flushed(log.append(record()))

    asyncio.run(main())
    first, second, third, *_ = (verify(path) for path in segments(tmp_path))
    assert 1 == len(broken_links([first, third]))
    assert 1 == len(broken_links([second, third]))
    lines = second.path.read_bytes().splitlines(keepends=True)
    second.path.write_bytes(b"".join(lines[:-2]))
    shortened = verify(second.path)
    assert shortened.is_intact
    assert [f"{third.path.name}: "] == [
        text[: len(third.path.name) + 2] for text in broken_links([first, shortened, third])
    ]


def test_a_clock_that_jumps_back_changes_nothing(tmp_path: Path) -> None:
    """Segments begun while the clock goes backwards have names of their own and one whole chain."""
    times_s = iter([1e9 - 1000 * step for step in range(1000)])

    async def main() -> None:
        async with AuditLog(tmp_path, segment_bytes=600, clock=lambda: next(times_s)) as log:
            for _ in range(10):
                await log.flushed(log.append(record()))

    asyncio.run(main())
    paths = segments(tmp_path)
    assert list(range(1, 11)) == [one.seq for path in paths for one in read_records(path)]
    assert [] == broken_links(verify(path) for path in paths)


def test_one_frozen_moment_gives_every_segment_its_own_name(tmp_path: Path) -> None:
    """Segments of one process and one instant do not collide."""

    async def main() -> None:
        async with AuditLog(tmp_path, segment_bytes=1, clock=lambda: 1e9) as log:
            for _ in range(5):
                await log.flushed(log.append(record()))

    asyncio.run(main())
    assert 5 + 1 == len(segments(tmp_path))


def test_counters_are_metrics(tmp_path: Path) -> None:
    """The numbers of records and losses, and the wait for a write, appear under the names of the metrics table."""
    registry = Registry()

    async def main() -> None:
        async with AuditLog(tmp_path, registry=registry) as log:
            log.append(record())
            await log.flushed(log.append(record()))

    asyncio.run(main())
    samples = {s.name: s.value for family in text_string_to_metric_families(registry.text()) for s in family.samples}
    assert 0 < samples.pop("penstock_audit_lag_seconds") < 30
    assert {
        "penstock_audit_records_total": 2,
        "penstock_audit_dropped_total": 0,
        "penstock_audit_unsynced_total": 0,
    } == samples


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    """Where no segment can be made, opening fails with the place."""
    (tmp_path / "audit").write_text("a file, not a directory")

    async def main() -> None:
        with pytest.raises(SegmentError, match="audit"):
            AuditLog(tmp_path / "audit").open(asyncio.get_running_loop())

    asyncio.run(main())


FULL_DISK = """
    import asyncio, resource, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from penstock.audit import AuditLog, Record

    answers = []

    def limit(size_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    async def tick(log, rows):
        for _ in range(rows):
            log.append(Record(kind="prediction", request_id="r", at=datetime.now(UTC), input=[{"a": "x" * 100}]))
            log.on_flushed(lambda error: answers.append(type(error).__name__))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def main():
        async with AuditLog(Path(sys.argv[1]), durability=sys.argv[2]) as log:
            await tick(log, 2)
            limit(log.path.stat().st_size + 300)   # room for a part of the next write: a short write
            await tick(log, 3)
            limit(log.path.stat().st_size)         # no room at all: an error
            await tick(log, 4)
            limit(resource.RLIM_INFINITY)
            await tick(log, 5)
            limit(log.path.stat().st_size)
            await tick(log, 1)
            limit(resource.RLIM_INFINITY)
            print(log.recorded, log.dropped, *answers)

    asyncio.run(main())
"""


@pytest.mark.parametrize(("durability", "answer"), [("write", "NoneType"), ("strict", "RecordFailed")])
def test_a_full_disk_follows_the_class(tmp_path: Path, durability: str, answer: str) -> None:
    """Short and refused writes leave a whole file, calls are answered as the class says, and the log tells the loss."""
    recorded, dropped, *answers = run_child(FULL_DISK, tmp_path, durability).stdout.split()
    [path] = segments(tmp_path)
    report = verify(path)
    assert ("7", "8") == (recorded, dropped)
    assert ["NoneType"] * 2 + [answer] * 7 + ["NoneType"] * 5 + [answer] == answers
    assert [1, 2, 10, 11, 12, 13, 14] == [one.seq for one in read_records(path)]
    assert (None, 7, 8, 0) == (report.broken, report.records, report.dropped, report.torn_bytes)


def test_a_lost_segment_is_left_for_a_new_one(tmp_path: Path) -> None:
    """When a write cannot be undone, the log goes on in a new segment that says how many records are missing."""
    answers: list[Exception | None] = []

    async def main() -> None:
        async with AuditLog(tmp_path, durability="strict") as log:
            await log.flushed(log.append(record("a")))
            os.close(log._run.segment._fd)  # every system call on the file fails now, the cut included
            log._run.segment._fd = os.open(os.devnull, os.O_RDONLY)
            log.append(record("b"))
            log.on_flushed(answers.append)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await log.flushed(log.append(record("c")))

    asyncio.run(main())
    reports = [verify(path) for path in segments(tmp_path)]
    assert [RecordFailed] == [type(answer) for answer in answers]
    assert ["a", "c"] == [one.request_id for report in reports for one in read_records(report.path)]
    assert ([0, 1], []) == ([report.dropped for report in reports], broken_links(reports))


def test_a_loss_is_told_at_once_and_then_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """However many ticks fail, the server's log has one line a minute, and one when records are written again."""
    now_s = [1e9]

    async def main() -> None:
        async with AuditLog(tmp_path, clock=lambda: now_s[0]) as log:
            os.close(log._run.segment._fd)  # as above; and with its directory away no new segment can be begun
            log._run.segment._fd = os.open(os.devnull, os.O_RDONLY)
            directory = log.path.parent
            directory.rename(tmp_path / "away")
            for _ in range(5):
                now_s[0] += 25
                await log.flushed(log.append(record()))
            (tmp_path / "away").rename(directory)
            await log.flushed(log.append(record()))

    asyncio.run(main())
    told = [one.getMessage().partition(" since")[0] for one in caplog.records]
    assert [
        "audit: 1 records could not be written",
        "audit: 4 records could not be written",
        "audit: records are written again, after 5 were lost",
    ] == told


def test_when_no_new_segment_can_be_made_the_old_one_goes_on(tmp_path: Path) -> None:
    """A rotation that fails loses nothing: the full segment grows, and the next tick tries again."""

    async def main() -> None:
        async with AuditLog(tmp_path, durability="strict", segment_bytes=1) as log:
            first = log.path.parent
            first.rename(tmp_path / "worker-9")
            await log.flushed(log.append(record("a")))
            await log.flushed(log.append(record("b")))
            assert isinstance(log.last_failure, SegmentError)
            (tmp_path / "worker-9").rename(first)
            await log.flushed(log.append(record("c")))

    asyncio.run(main())
    paths = segments(tmp_path)
    assert [["a", "b"], ["c"]] == [names(path) for path in paths]
    assert [] == broken_links(verify(path) for path in paths)


def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    """Two processes writing as the same worker have a segment each; nothing of either is lost or mixed."""
    code = """
        import asyncio, sys
        from datetime import UTC, datetime
        from pathlib import Path
        from penstock.audit import AuditLog, Record

        async def main():
            async with AuditLog(Path(sys.argv[1])) as log:
                print("ready", flush=True)
                sys.stdin.readline()
                for _ in range(500):
                    record = Record(kind="prediction", request_id=sys.argv[2], at=datetime.now(UTC))
                    await log.flushed(log.append(record))

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "one"], **pipes) as one, subprocess.Popen([*command, "two"], **pipes) as two:
        for child in (one, two):
            assert child.stdout is not None
            assert "ready\n" == child.stdout.readline()
        for child in (one, two):
            child.communicate("go\n", timeout=60)
    written = {tuple(names(path)) for path in segments(tmp_path)}
    assert {("one",) * 500, ("two",) * 500} == written
    assert [True, True] == [verify(path).is_intact for path in segments(tmp_path)]
