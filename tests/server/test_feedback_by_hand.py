"""Feedback without a server: what a disk that takes nothing means, and what is counted of a worker that died."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import penstock
from penstock.audit import AuditLog, Durability, Masked, Record, read_records
from penstock.audit.segment import SegmentWriter
from penstock.errors import SegmentError
from penstock.runtime import Host, Version
from penstock.server.call import Call
from penstock.server.feedback import Feedback, Statements
from penstock.server.intake import Intake
from penstock.server.measures import Measures
from penstock.server.witness import Witness
from penstock.telemetry import Registry

AT = datetime(2026, 11, 20, tzinfo=UTC)
BODY = msgspec.json.encode(
    [{"request_id": f"01a1f8f8-a2ee-752b-b9d0-02aeca9d129{number}", "actual": number} for number in (1, 2)]
)


async def given(log: AuditLog, measures: Measures, body: bytes, models: Sequence[Version] = ()) -> tuple[Call, Intake]:
    """A call for feedback, once it is back."""
    intake = Intake()
    feedback = Feedback(Host(models), log, witness=Witness(slow_ms=0), measures=measures, intake=intake)
    call = Call(Statements(), body, time.monotonic_ns())
    intake.hold(len(body), len(body))
    landed: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    call.done = landed.set_result
    feedback.start(call)
    return await landed, intake


@pytest.mark.parametrize(
    ("durability", "code", "line"),
    [
        ("write", None, 'penstock_feedback_total{outcome="recorded"} 2'),
        ("strict", "record_failed", 'penstock_feedback_total{outcome="failed"} 1'),
    ],
)
def test_a_disk_that_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, code: str | None, line: str
) -> None:
    """Feedback is as durable as an answer: `strict` refuses what it cannot record, `write` takes it and counts."""
    registry = Registry()

    def full(*args: object, **options: object) -> None:
        raise SegmentError("no space")

    async def main() -> tuple[Call, Intake, int]:
        async with AuditLog(tmp_path, durability=durability) as log:
            with monkeypatch.context() as patch:
                patch.setattr(SegmentWriter, "write", full)
                call, intake = await given(log, Measures(registry), BODY)
            return call, intake, log.dropped

    call, intake, dropped = asyncio.run(main())
    assert (code, 0, 2) == (None if call.reply.failure is None else call.reply.failure.code, intake.held_bytes, dropped)
    assert line in registry.text()


def test_values_by_target(tmp_path: Path) -> None:
    """They are kept where a model that is served knows the targets; names that none knows could be anything."""
    rows = pd.DataFrame({"x": np.arange(20.0)})
    values = pd.DataFrame({"heat": rows["x"], "power": 2 * rows["x"]})
    bundle = penstock.pack(LinearRegression().fit(rows, values), name="m", sample=rows, out=tmp_path / "bundles")
    targets = bundle.outputs.targets
    known, unknown = dict.fromkeys(targets, 1.5), {**dict.fromkeys(targets, 1.5), "Erika": 1.0}
    body = msgspec.json.encode([{"key": "k", "model": "m", "actual": actual} for actual in (known, unknown)])

    async def main() -> tuple[Call, list[Record]]:
        async with AuditLog(tmp_path / "audit") as log:
            call, _ = await given(log, Measures(Registry()), body, [penstock.open(bundle.path)])
        return call, list(read_records(log.path))

    call, records = asyncio.run(main())
    assert (2, 1) == (len(records), msgspec.json.decode(call.reply.encoded)["unlisted"])
    assert [known, Masked("unlisted")] == [record.input[0]["actual"] for record in records]


def test_recounted_from_the_log() -> None:
    """What a killed worker had no time to tell is counted by its records."""
    registry = Registry()
    measures = Measures(registry)
    for kind in ("feedback", "feedback", "refusal"):
        measures.recount(Record(kind=kind, request_id="a", at=AT, protocol="feedback"))
    assert 'penstock_feedback_total{outcome="recorded"} 2' in registry.text()
    assert 'penstock_feedback_total{outcome="refused"} 1' in registry.text()
    assert "model_requests_total{" not in registry.text()
