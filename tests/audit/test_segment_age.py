"""Old segments end, so that they can be sealed: at the next write, or by themselves in an idle worker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.audit import AsyncBound, AuditLog, Durability
from penstock.audit.proof import prove
from penstock.audit.seal import Sealer
from records import answered


def segments(audit: Path) -> list[Path]:
    """Those of the worker."""
    return sorted(audit.glob("worker-0/*.jsonl"))


def test_an_old_segment_ends_at_the_next_write(tmp_path: Path) -> None:
    """The record that comes an hour later begins a new segment; the chain goes on."""
    now = [datetime(2026, 11, 20, tzinfo=UTC).timestamp()]

    async def main() -> None:
        async with AuditLog(tmp_path, segment_s=3600, clock=lambda: now[0]) as log:
            await log.flushed(log.append(answered(1)))
            now[0] += 3599
            await log.flushed(log.append(answered(2)))
            now[0] += 1
            await log.flushed(log.append(answered(3)))

    asyncio.run(main())
    assert 2 == len(segments(tmp_path))
    assert (3, []) == (prove(tmp_path).records, prove(tmp_path).problems)


def test_an_idle_worker_gives_its_segment_away(tmp_path: Path) -> None:
    """An old segment with records ends without another call, and can be sealed."""

    async def main() -> None:
        async with AuditLog(tmp_path, segment_s=0.05) as log:
            await log.flushed(log.append(answered(1)))
            first = log.path
            deadline_s = asyncio.get_running_loop().time() + 60
            while log.path == first and asyncio.get_running_loop().time() < deadline_s:
                await asyncio.sleep(0.01)
            assert 2 == len(segments(tmp_path))
            assert 1 == Sealer(tmp_path).seal().records
            await log.flushed(log.append(answered(2)))

    asyncio.run(main())
    assert (2, []) == (prove(tmp_path).records, prove(tmp_path).problems)


@pytest.mark.parametrize("durability", ["async", "write", "fsync", "strict"])
def test_a_segment_ends_on_demand(tmp_path: Path, durability: Durability) -> None:
    """Told to, an idle worker begins a new segment and lets the old one go, once; the chain goes on."""

    async def main() -> None:
        async with AuditLog(tmp_path, durability=durability, async_bound=AsyncBound(ms=1)) as log:
            log.turn()
            assert 1 == len(segments(tmp_path))
            await log.flushed(log.append(answered(1)))
            deadline_s = asyncio.get_running_loop().time() + 60
            while len(segments(tmp_path)) < 2 and asyncio.get_running_loop().time() < deadline_s:
                log.turn()  # with `async` the record is answered before it is written
                await asyncio.sleep(0.01)
            while not Sealer(tmp_path).seal().records and asyncio.get_running_loop().time() < deadline_s:
                await asyncio.sleep(0.01)
            await log.flushed(log.append(answered(2)))

    asyncio.run(main())
    assert 1 == len(segments(tmp_path))
    assert (2, []) == (prove(tmp_path).records, prove(tmp_path).problems)
