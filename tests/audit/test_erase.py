"""Erasing: the payload is in no file any more, and the log still proves itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.audit import (
    AuditLog,
    Erased,
    Place,
    Pseudonyms,
    Record,
    Wanted,
    broken_links,
    erase,
    read_records,
    records_after,
    recover,
    unexplained,
    verify,
)
from penstock.audit.erase import Erasures
from penstock.errors import SegmentError

AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)
SECRET = Pseudonyms(b"secret of the home")
OWNERS = ("anna", "ben", "cem")


def write(audit: Path, count: int = 12, *, in_clear: bool = False, segment_bytes: int = 2500) -> None:
    """Records of three owners in turn, in some segments; each has a text of its own in it."""

    async def main() -> None:
        async with AuditLog(audit, segment_bytes=segment_bytes) as log:
            for number in range(count):
                owner = OWNERS[number % 3]
                key = owner if in_clear else SECRET.of_key(owner)
                rows = [{"text": f"canary-{number}-"}]
                record = Record(kind="prediction", request_id=f"id-{number}", at=AT, key=key, input=rows, outputs=[0.5])
                await log.flushed(log.append(record))

    asyncio.run(main())


def reports(audit: Path) -> list[Any]:
    """Of all segments."""
    return [verify(path) for path in sorted(audit.glob("worker-*/*.jsonl"))]


def everything(audit: Path) -> bytes:
    """All bytes of all files."""
    return b"".join(path.read_bytes() for path in sorted(audit.rglob("*")) if path.is_file())


def is_proven(audit: Path) -> bool:
    """Whether the log verifies, its erasures included."""
    found = reports(audit)
    return (
        all(report.is_intact for report in found) and not broken_links(found) and not unexplained(audit, found, SECRET)
    )


def canaries(audit: Path, count: int = 12) -> set[int]:
    """The numbers of the records whose text is in any file."""
    content = everything(audit)
    return {number for number in range(count) if b"canary-%d-" % number in content}


@pytest.mark.parametrize("in_clear", [False, True])
def test_what_is_about_one_goes(tmp_path: Path, in_clear: bool) -> None:
    """Of one key nothing is left but envelopes; the others' records are as they were, and so is the chain's end."""
    write(tmp_path, in_clear=in_clear)
    before = reports(tmp_path)
    found = erase(tmp_path, Wanted(keys=frozenset({"anna"})), SECRET)
    assert (4, ()) == (found.records, found.busy)
    assert {1, 2, 4, 5, 7, 8, 10, 11} == canaries(tmp_path)
    assert not in_clear or b'"anna"' not in everything(tmp_path)
    after = reports(tmp_path)
    assert [report.head for report in before] == [report.head for report in after]
    assert (12, 4) == (sum(report.records for report in after), sum(report.erased for report in after))
    assert is_proven(tmp_path)
    read = [record for report in after for record in read_records(report.path)]
    assert [number % 3 == 0 for number in range(12)] == [record.is_erased for record in read]
    assert [None if record.is_erased else 0.5 for record in read] == [(record.outputs or [None])[0] for record in read]
    assert Erased(records=0, files=0, busy=()) == erase(tmp_path, Wanted(keys=frozenset({"anna"})), SECRET)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(rounds=st.lists(st.sets(st.integers(0, 11), max_size=5), max_size=3))
def test_whatever_is_erased_the_log_is_proven(tmp_path_factory: pytest.TempPathFactory, rounds: list[set[int]]) -> None:
    """After rounds of erasing by request ids exactly those payloads are gone from all files, and places still hold."""
    audit = tmp_path_factory.mktemp("audit")
    write(audit)
    first = min(audit.glob("worker-0/*.jsonl"))
    place = Place(str(first), first.read_bytes().index(b'{"seq":2,'))
    for numbers in rounds:
        erase(audit, Wanted(frozenset(f"id-{number}" for number in numbers)), SECRET)
    assert set(range(12)) - set().union(*rounds) == canaries(audit)
    assert is_proven(audit)
    assert [] == recover(audit)
    assert [f"id-{number}" for number in range(1, 12)] == [record.request_id for record in records_after(place)]


def test_a_payload_that_was_taken_out_by_hand_is_told(tmp_path: Path) -> None:
    """Blanks in the place of a payload verify by the chain, and are found for want of an event."""
    write(tmp_path, 2, segment_bytes=10**6)
    [path] = tmp_path.glob("worker-0/*.jsonl")
    whole = path.read_bytes()
    start, end = whole.index(b',"salt"'), whole.index(b"}\n", whole.index(b',"salt"'))
    path.write_bytes(whole[:start] + b" " * (end - start) + whole[end:])
    assert [None] == [report.broken for report in reports(tmp_path)]
    [problem] = unexplained(tmp_path, reports(tmp_path), SECRET)
    assert f"{path.name}: 1 payloads are gone, and no erasure is noted" == problem
    path.write_bytes(whole)
    erase(tmp_path, Wanted(frozenset({"id-0"})), SECRET)
    path.write_bytes(path.read_bytes().replace(b" }\n", b"}\n"))
    assert ["Expected the file that erasing left"] == [
        problem.partition(": ")[2].partition(",")[0] for problem in unexplained(tmp_path, reports(tmp_path), SECRET)
    ]


def test_an_event_that_was_changed_is_told(tmp_path: Path) -> None:
    """The events are signed and tied to each other: a changed, removed or foreign one is found."""
    write(tmp_path)
    for number in range(3):
        erase(tmp_path, Wanted(frozenset({f"id-{number}"})), SECRET)
    path = tmp_path / "erasures.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert 3 == len(Erasures(tmp_path, SECRET).entries())
    for forged in ([lines[0].replace(b'"seqs":[1]', b'"seqs":[2]'), *lines[1:]], lines[1:], [lines[0], lines[2]]):
        path.write_bytes(b"".join(forged))
        with pytest.raises(SegmentError, match="changed, removed or signed by others"):
            unexplained(tmp_path, reports(tmp_path), SECRET)
    path.write_bytes(b"".join(lines))
    with pytest.raises(SegmentError, match="signed by others"):
        unexplained(tmp_path, reports(tmp_path), Pseudonyms(b"another secret"))


def test_a_segment_that_is_being_written_is_named(tmp_path: Path) -> None:
    """A living worker's segment is left alone, and said to hold something still; once closed it is done."""

    async def main() -> None:
        async with AuditLog(tmp_path) as log:
            await log.flushed(log.append(Record(kind="prediction", request_id="mine", at=AT, input=["canary-0-"])))
            assert (log.path,) == erase(tmp_path, Wanted(frozenset({"mine"})), SECRET).busy

    asyncio.run(main())
    assert 1 == erase(tmp_path, Wanted(frozenset({"mine"})), SECRET).records
    assert set() == canaries(tmp_path)


@pytest.mark.parametrize("step", ["note", "replace", "half a note"])
def test_a_crash_while_erasing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A crash before any step leaves a log that verifies, and erasing again does the rest."""
    write(tmp_path, 3, segment_bytes=10**6)

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "replace":
            patch.setattr(Path, "replace", crash)
        else:
            patch.setattr(Erasures, "note", crash)
        with pytest.raises(KeyboardInterrupt):
            erase(tmp_path, Wanted(frozenset({"id-0"})), SECRET)
    if step == "half a note":
        (tmp_path / "erasures.jsonl").write_bytes(b'{"at":"2026')
    assert {0, 1, 2} == canaries(tmp_path, 3)
    assert is_proven(tmp_path)
    assert 1 == erase(tmp_path, Wanted(frozenset({"id-0"})), SECRET).records
    assert {1, 2} == canaries(tmp_path, 3)
    assert is_proven(tmp_path)
