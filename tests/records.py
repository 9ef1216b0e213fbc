"""Records to write, seal and search."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from penstock.audit import AuditLog, FellBack, Masked, Record, tag
from penstock.errors import Violation

AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)


FEES: Final[dict[str, Any]] = {
    "experiment": "fees",
    "bucket": 17,
    "placed_by": "rule",
    "weights": {"champion": 9000, "b": 1000},
}


def answered(number: int, **changes: Any) -> Record:
    """The `number`th answer of a model: one row, a new one each second."""
    given: dict[str, Any] = {
        "kind": "prediction",
        "request_id": f"0190-{number:08d}",
        "at": AT + timedelta(seconds=number),
        "model": "churn",
        "version": 1 + number % 2,
        "digest": "sha256:cafe",
        "protocol": "own",
        "key": f"customer-{number % 10}",
        "client_id": f"call-{number}",
        "input": [{"age": 20 + number % 50, "region": "north" if number % 3 else None}],
        "outputs": [{"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}}],
        "rows": 1,
        "batch_rows": 3,
        "total_ms": 1.5,
    }
    return Record(**{**given, **changes})


def odd_ones() -> list[Record]:
    """Records with everything in them that a log can hold, and some with nothing."""
    many = [{"age": 1, "x": -0.0}, {"age": 2.5, "x": None}, {"age": 2**70, "x": float("nan")}]
    return [
        answered(1, input=tag(many), rows=3, outputs=[{"value": 1.0}, {"value": float("inf")}, {"value": 0.1}]),
        answered(2, input=tag([{"name": Masked("name"), "blob": b"\x00\xff", "$ref": 1, "text": "\ud800"}])),
        answered(3, raw=[[1, "a"]], undeclared=2, decision={"threshold": 0.5}, cached=True, trace_id="ab" * 16),
        answered(4, fallback=FellBack("version", "model_failed", 2), principal="ana", arm="b", **FEES),
        Record(kind="refusal", request_id="0190-00000005", at=AT, code="not_found", model="../../x", version="old"),
        Record(
            kind="refusal",
            request_id="0190-00000006",
            at=AT + timedelta(days=1),
            code="schema_violation",
            model="churn",
            version=1,
            digest="sha256:cafe",
            raw=[{"age": "old"}],
            violations=(Violation("$.instances[0].age", "`float`", '"old"'),),
        ),
        Record(kind="failure", request_id="0190-00000007", at=AT, code="internal", body_bytes=9, body_sha256="00"),
    ]


def write(audit: Path, records: Iterable[Record], *, worker: int = 0, ticks: int = 4) -> Path:
    """A whole, closed segment of the records; its path."""

    async def main(given: Sequence[Record]) -> Path:
        async with AuditLog(audit, worker=worker) as log:
            for place, record in enumerate(given, start=1):
                log.append(record)
                if place % ticks == 0:
                    await asyncio.sleep(0)
            return log.path

    return asyncio.run(main(list(records)))
