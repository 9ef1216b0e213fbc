"""What a run wrote after a place in its log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.audit import AuditLog, Place, Record, records_after
from penstock.errors import SegmentError


def record(number: int) -> Record:
    return Record(kind="prediction", request_id=f"id-{number}", at=datetime(2026, 1, 1, tzinfo=UTC))


def append(log: AuditLog, *numbers: int) -> None:
    for number in numbers:
        log.append(record(number))
    log.flush()


def test_records_after_a_place(tmp_path: Path) -> None:
    """All whole writes after the place are there, those of the run's later segments too; of other runs none."""
    with asyncio.Runner() as runner:
        logs = [AuditLog(tmp_path, segment_bytes=1200) for _ in range(2)]
        for log in logs:
            log.open(runner.get_loop())
        append(logs[0], 1, 2)
        place = logs[0].place
        append(logs[1], 100)
        for number in range(3, 20):
            append(logs[0], number)
        torn = logs[0].path
        for log in logs:
            log.close()
    with torn.open("ab") as file:
        file.write(b'{"seq":20,"request_id":"id-20","kind":"predi')
    assert len(list(tmp_path.glob("*/*"))) > 3
    assert [f"id-{number}" for number in range(3, 20)] == [found.request_id for found in records_after(place)]


def test_a_segment_that_is_gone(tmp_path: Path) -> None:
    """A place in a file that is not there is told."""
    with pytest.raises(SegmentError, match="Expected a readable audit segment"):
        list(records_after(Place(str(tmp_path / "gone.jsonl"), 0)))
