"""The witness: which finished calls it asks to see, which it sends as spans, and what it says of bugs."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.audit import FellBack
from penstock.errors import ModelFailed
from penstock.runtime import open_model
from penstock.server.call import Call, Reply
from penstock.server.protocols import Own
from penstock.server.witness import Key, Witness
from penstock.telemetry import CallSpans, Storm, Trace

TRACE = Trace("a" * 32, "b" * 16, is_sampled=True)


class Taken:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.calls: list[CallSpans] = []

    def has_room(self, spans: int) -> bool:
        return True

    def take(self, call: CallSpans) -> None:
        self.calls.append(call)

    def close(self) -> None:
        pass


def finished(trace: Trace | None = None, *, latency_ms: float = 1.0) -> Call:
    call = Call(Own(), b"", time.monotonic_ns())
    call.reply = Reply("r-1", datetime.now(UTC))
    call.trace = trace
    call.reply.latency_ms = latency_ms
    return call


@pytest.mark.parametrize(("slow_ms", "spans", "from_ms"), [(0, None, math.inf), (250, None, 250), (250, Taken(), 0)])
def test_it_asks_for_no_more_than_it_needs(slow_ms: float, spans: Taken | None, from_ms: float) -> None:
    """Without spans only slow calls are shown to it, none at 0; with spans all are."""
    assert from_ms == Witness(slow_ms=slow_ms, spans=spans).from_ms


def test_the_callers_flag_comes_before_the_share() -> None:
    """Of traces that callers began the sampled ones are taken; of calls without one, those below the share."""
    chances = iter([0.0, 0.24, 0.25, 0.9])
    spans = Taken()
    witness = Witness(slow_ms=0, spans=spans, sample=0.25, chance=lambda: next(chances))
    for _ in range(4):
        witness.saw(finished())
    assert 2 == len(spans.calls)
    witness.saw(finished(TRACE))
    witness.saw(finished(Trace("a" * 32, "b" * 16, is_sampled=False)))
    assert [None, None, TRACE] == [call.trace for call in spans.calls]


def test_bugs_are_told_without_their_messages(caplog: pytest.LogCaptureFixture) -> None:
    """A bug's line has the request id and the way to it; a storm of one kind is one line more."""
    storm: Storm[Key] = Storm(clock=time.monotonic, first=2)
    witness = Witness(slow_ms=0, storm=storm)

    async def main() -> None:
        for number in range(10):
            try:
                int("4111-1111")
            except ValueError as bug:
                witness.bug(f"r-{number}", bug)
        witness.close()

    asyncio.run(main())
    told = [record.getMessage() for record in caplog.records]
    assert ["request r-0 ended in a bug: ValueError", "request r-1 ended in a bug: ValueError"] == [
        line.partition(" at ")[0] for line in told[:2]
    ]
    assert ["ValueError 8 more times in the last 0 s; last request r-9"] == told[2:]
    assert "4111" not in caplog.text


@pytest.mark.parametrize(("name", "is_told"), [("iris", True), ("churn", False)])
def test_what_a_library_says_may_be_personal(
    caplog: pytest.LogCaptureFixture, bundles: dict[str, Path], name: str, is_told: bool
) -> None:
    """An encoder's message has the value that it does not know: it is told only where no field is personal."""
    call = finished()
    call.reply.model = open_model(bundles[name])
    call.reply.failure = ModelFailed("the model raised ValueError", "Found unknown categories ['Erika']")
    Witness(slow_ms=0).saw(call)
    assert "model_failed: the model raised ValueError" in caplog.text
    assert is_told == ("Erika" in caplog.text)


def test_a_fallback_hides_no_failure(caplog: pytest.LogCaptureFixture, bundles: dict[str, Path]) -> None:
    """The caller gets an answer; the log has a line with what failed and what answered, and the span has both."""
    spans = Taken()
    witness = Witness(slow_ms=0, spans=spans)
    call = finished(TRACE)
    reply = call.reply
    reply.model, reply.fallback = open_model(bundles["iris"]), FellBack("constant", "model_failed", 7)
    witness.fell_back(reply)
    witness.saw(call)
    [line] = caplog.records
    message = "model_failed: the fallback (constant) answers (request_id=r-1 model=iris version=7)"
    assert (logging.WARNING, message) == (line.levelno, line.getMessage())
    attributes = spans.calls[0].attributes
    assert ("constant", "model_failed") == (
        attributes["penstock.fallback"],
        attributes["penstock.fallback_code"],
    )
    assert not spans.calls[0].is_error


def test_a_storm_is_summed_up_while_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """The summary comes when the window is over, with no further call."""
    witness = Witness(slow_ms=1, storm=Storm(clock=time.monotonic, first=1, window_s=0.05))

    async def main() -> None:
        for _ in range(3):
            witness.saw(finished(latency_ms=5.0))
        while len(caplog.records) < 2:
            await asyncio.sleep(0.005)
        witness.close()

    with caplog.at_level(logging.WARNING, logger="penstock.calls"):
        asyncio.run(asyncio.wait_for(main(), 30))
    assert ["slow (request_id=r-1 total_ms=5.0)", "slow 2 more times in the last 0 s; last request r-1"] == [
        record.getMessage() for record in caplog.records
    ]
