"""Crashes of real processes: nothing acknowledged is lost, torn tails are cut, living segments are left alone."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.audit import AuditLog, Record, Recovered, read_records, recover, verify
from penstock.errors import SegmentError

AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)

# Appends as fast as it can, in ticks of 1 to 8 records, and says each number to its parent once it may be answered.
WRITER = """
    import asyncio, os, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from penstock.audit import AuditLog, Record, recover

    at = datetime.now(UTC)
    record = Record(kind="prediction", request_id="r", at=at, input=[{"text": "x" * 300}])

    def acknowledge(seq, error):
        if error is None:
            os.write(1, b"%d\\n" % seq)

    async def main():
        recover(Path(sys.argv[1]))
        async with AuditLog(Path(sys.argv[1]), segment_bytes=200_000) as log:
            tick = 0
            while True:
                tick += 1
                for _ in range(1 + tick % 8):
                    seq = log.append(record)
                    log.on_flushed(lambda error, seq=seq: acknowledge(seq, error))
                await asyncio.sleep(0)

    asyncio.run(main())
"""


def crash_round(directory: Path, after_acks: int) -> list[int]:
    """Start a writer, kill it with SIGKILL after some acknowledgements; the numbers that it acknowledged."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(after_acks)]
        child.send_signal(signal.SIGKILL)
        # The last line may be cut: a number that did not arrive whole was not acknowledged.
        rest = child.stdout.read().split(b"\n")[:-1]
    return acknowledged + [int(line) for line in rest]


def test_sigkill_loses_no_acknowledged_record(tmp_path: Path) -> None:
    """Ten writers killed at random moments: each acknowledged number is recorded exactly once, chains verify."""
    choice = random.Random(20261120)
    for round_number in range(10):
        directory = tmp_path / str(round_number)
        acknowledged = crash_round(directory, choice.randint(1, 4000))
        recover(directory)
        reports = [verify(path) for path in directory.glob("worker-0/*.jsonl")]
        recorded = Counter(record.seq for report in reports for record in read_records(report.path))
        assert [(None, 0)] * len(reports) == [(report.broken, report.torn_bytes) for report in reports]
        assert [] == [seq for seq in acknowledged if recorded[seq] != 1]
        assert {1} == set(recorded.values())
        assert len(set(acknowledged)) == len(acknowledged)


def write_some(directory: Path, records: int = 3) -> Path:
    """A segment of a log that was closed."""

    async def main() -> Path:
        async with AuditLog(directory) as log:
            for _ in range(records):
                await log.flushed(log.append(Record(kind="prediction", request_id="r", at=AT)))
            return log.path

    return asyncio.run(main())


def test_a_torn_tail_is_cut_and_counted(tmp_path: Path) -> None:
    """What stands behind the last commit is cut off, and only that."""
    path = write_some(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":4,"kind":"prediction","req')
    assert [Recovered(path=path, cut_bytes=33)] == recover(tmp_path)
    assert whole == path.read_bytes()
    assert [] == recover(tmp_path)


def test_a_living_writer_is_not_disturbed(tmp_path: Path) -> None:
    """The segment of an open log is locked: recovery leaves it as it is, torn or not, and cuts it after the close."""

    async def main() -> tuple[list[Recovered], bytes, bytes, Path]:
        async with AuditLog(tmp_path) as log:
            await log.flushed(log.append(Record(kind="prediction", request_id="r", at=AT)))
            whole = log.path.read_bytes()
            with log.path.open("ab") as file:
                file.write(b"torn")
            return recover(tmp_path), whole, log.path.read_bytes(), log.path

    recovered, whole, left, path = asyncio.run(main())
    assert ([], whole + b"torn") == (recovered, left)
    assert [Recovered(path=path, cut_bytes=4)] == recover(tmp_path)


def test_a_broken_segment_is_reported_and_kept(tmp_path: Path) -> None:
    """A segment that was changed is evidence: recovery names it and does not touch it, torn tail or not."""
    path = write_some(tmp_path)
    changed = path.read_bytes().replace(b'"seq":2', b'"seq":7') + b"torn"
    path.write_bytes(changed)
    [found] = recover(tmp_path)
    assert (path, 0, changed) == (found.path, found.cut_bytes, path.read_bytes())
    assert found.broken is not None


def test_recovery_reads_ends_only(tmp_path: Path) -> None:
    """A segment that ends whole is left to `verify`, so that a start does not read everything again."""
    path = write_some(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"seq":2', b'"seq":7'))
    assert ([], False) == (recover(tmp_path), verify(path).is_intact)


@pytest.mark.parametrize("records", [1, 2000])
def test_large_last_writes_are_recovered(tmp_path: Path, records: int) -> None:
    """The end of a segment is found whole however long its last write is."""

    async def main() -> Path:
        async with AuditLog(tmp_path) as log:
            for _ in range(records):
                seq = log.append(Record(kind="prediction", request_id="r", at=AT, input="x" * 100))
            await log.flushed(seq)
            return log.path

    path = asyncio.run(main())
    whole = path.read_bytes()
    assert [] == recover(tmp_path)
    path.write_bytes(whole[:-1])
    [found] = recover(tmp_path)
    assert len(whole) - 1 == found.cut_bytes + verify(path).good_bytes
    assert 0 == verify(path).records


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link in the place of a segment is refused: what it points to could be anything."""
    (tmp_path / "worker-0").mkdir()
    target = tmp_path / "target"
    target.write_bytes(b"something else")
    (tmp_path / "worker-0" / "a.jsonl").symlink_to(target)
    with pytest.raises(SegmentError):
        recover(tmp_path)
    assert b"something else" == target.read_bytes()


def test_nothing_to_recover(tmp_path: Path) -> None:
    """A home without an audit directory has nothing to recover."""
    assert [] == recover(tmp_path / "absent")
