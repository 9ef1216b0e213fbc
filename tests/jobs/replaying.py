"""Homes with a log to replay: what a model answered to real rows, written by the real log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from penstock.audit import AuditLog, Masker, Record
from penstock.jobs.replay import Question, Replay, Report
from penstock.runtime.model import Model

BEGIN = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


def called(model: Model, number: int, rows: Sequence[Any], /, **changes: Any) -> Record:
    """The record of a call: what `model` answers to checked rows, in a run of their own; one call each second."""
    given: dict[str, Any] = {
        "kind": "prediction",
        "request_id": f"call-{number:06d}",
        "at": BEGIN + timedelta(seconds=number),
        "model": model.name,
        "version": model.version,
        "digest": model.digest,
        "protocol": "penstock",
        "input": Masker(model.schema).rows(rows),
        "outputs": model.score(rows),
        "rows": len(rows),
        "batch_rows": len(rows),
        "run_ms": 0.5,
    }
    return Record(**{**given, **changes})


def calls_of(model: Model, rows: Sequence[Any]) -> list[Record]:
    """The records of calls of one to five rows each."""
    records, at = [], 0
    while at < len(rows):
        count = 1 + len(records) % 5
        records.append(called(model, len(records), rows[at : at + count]))
        at += count
    return records


def write(home: Path, records: Iterable[Record], *, segment_bytes: int = 128 << 20) -> None:
    """Write records as a worker does, some in each tick."""

    async def run() -> None:
        async with AuditLog(home / "audit", segment_bytes=segment_bytes) as log:
            for number, record in enumerate(records):
                log.append(record)
                if number % 16 == 0:
                    await asyncio.sleep(0)

    asyncio.run(run())


def question_of(model: Model, **changes: Any) -> Question:
    """What to ask of a version."""
    return msgspec.structs.replace(Question(model=model.name, version=model.version, digest=model.digest), **changes)


def replayed(home: Path, model: Model, asked: dict[str, Any] | None = None, **options: Any) -> Report:
    """The report of a replay by `model`; `asked` changes the question."""
    return Replay(home, question_of(model, **(asked or {})), model, **options).run()
