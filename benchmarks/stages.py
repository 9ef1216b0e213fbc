"""What each stage of the hot path costs, in µs a request, at ticks of 1 and 16 requests of one row."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from penstock.audit import Answered, AuditLog, RequestIds, opening_of
from penstock.bundle.bundle import Bundle
from penstock.runtime import Model
from penstock.server.call import Call, Reply
from penstock.server.protocols import Own

ROUNDS = 9
_REQUEST_ID = RequestIds().next()
_AT = datetime.now(UTC)


def stages(model: Model, row: dict[str, Any], scratch: Path) -> list[tuple[str, float, float]]:
    """`(stage, µs a request at ticks of 1, µs a request at ticks of 16)`, medians of nine rounds."""
    body = msgspec.json.encode({"instances": [row]})
    read = Own().reader(model.check, 1000)
    one, many = [read(body).rows[0]], [read(body).rows[0] for _ in range(16)]
    columns = {1: model.check.columns(one), 16: model.check.columns(many)}
    outputs = {n: model._predictor.run(columns[n]) for n in columns}
    predictions = model.predictions(outputs[1], 1)
    encoded = msgspec.json.encode(predictions)
    opening = opening_of(model=model.name, version=1, digest=model.digest, protocol="penstock")
    answered = _answered(model, predictions, encoded)
    log = _Ticks(scratch)
    rows = {1: one, 16: many}
    found: list[tuple[str, Callable[[int], object]]] = [
        ("decode and check the body", lambda n: [read(body) for _ in range(n)]),
        ("rows to columns", lambda n: model.check.columns(rows[n])),
        ("ONNX Runtime", lambda n: model._predictor.run(columns[n])),
        ("outputs to predictions", lambda n: model.predictions(outputs[n], n)),
        ("record: encode, chain, write", lambda n: log.tick(one, encoded, opening, n)),
        ("encode the reply", lambda n: [Own().answer(answered) for _ in range(n)]),
    ]
    measured = [(name, _per_request_us(stage, 1), _per_request_us(stage, 16)) for name, stage in found]
    log.close()
    return measured


def record_costs(bundle: Bundle, row: dict[str, Any], scratch: Path) -> list[float]:
    """What a record costs at ticks of 16, in µs of processor time, measured five times."""
    model = Model.load(bundle)
    read = Own().reader(model.check, 1000)
    rows = read(msgspec.json.encode({"instances": [row]})).rows
    encoded = msgspec.json.encode(model.predictions(model._predictor.run(model.check.columns(rows)), 1))
    opening = opening_of(model=model.name, version=1, digest=model.digest, protocol="penstock")
    log = _Ticks(scratch)
    costs = [_per_request_us(lambda n: log.tick(rows, encoded, opening, n), 16, time.process_time_ns) for _ in range(5)]
    log.close()
    return costs


class _Ticks:
    """An audit log whose ticks are flushed by hand."""

    def __init__(self, scratch: Path) -> None:
        import asyncio

        self._loop = asyncio.new_event_loop()
        self._log = AuditLog(scratch / "stages")
        self._log.open(self._loop)

    def tick(self, rows: Sequence[Any], encoded: bytes, opening: bytes, n: int) -> None:
        """As the hot path does it, but for the request id."""
        for _ in range(n):
            self._log.append_answer(Answered(_REQUEST_ID, _AT, 1, 16, 0.01, 0.02, 0.05), opening, rows, encoded)
        self._log.flush()

    def close(self) -> None:
        self._log.close()
        self._loop.close()


def _per_request_us(
    stage: Callable[[int], object], n: int, clock_ns: Callable[[], int] = time.perf_counter_ns
) -> float:
    runs = 300
    rounds = []
    for _ in range(ROUNDS):
        began_ns = clock_ns()
        for _ in range(runs):
            stage(n)
        rounds.append((clock_ns() - began_ns) / 1e3 / runs / n)
    return statistics.median(rounds)


def _answered(model: Model, predictions: list[Any], encoded: bytes) -> Call:
    call = Call(Own(), b"", 0)
    reply = call.reply = Reply(RequestIds().next(), datetime.now(UTC))
    reply.model, reply.predictions, reply.encoded = model, predictions, encoded
    return call
