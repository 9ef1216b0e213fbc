"""Sealing: nothing lost and nothing doubled, wherever it is interrupted; and what `tidy` and retention take away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from crashes import Crash, crash_at, steps_of
from penstock.audit import AuditLog
from penstock.audit.columns import records_of
from penstock.audit.conditions import Conditions
from penstock.audit.query import Records
from penstock.audit.retention import Bounds, Retention, due, retain
from penstock.audit.seal import Sealer
from penstock.audit.sealed import SealedFile, read_index
from penstock.audit.segment import digest_of
from penstock.errors import SegmentError
from records import AT, answered, odd_ones, write


def ids(audit: Path) -> Counter[str]:
    """How often each record is there, by its id."""
    return Counter(Records(audit).page(Conditions(), 10_000).table["request_id"].to_pylist())


def two_segments(audit: Path) -> None:
    """A segment of two models and two days, and one of another worker."""
    others = [answered(number, model="growth") for number in range(50, 60)]
    write(audit, [*map(answered, range(10, 40)), *others, *odd_ones()])
    write(audit, map(answered, range(100, 120)), worker=1)


def test_sealed_records_are_what_was_written(tmp_path: Path) -> None:
    """After sealing every record is there once, to the last bit; no segment is left, and the files are ours only."""
    two_segments(tmp_path)
    before = {record.request_id: repr(record) for record in records_of(Records(tmp_path).page(Conditions(), 99).table)}
    sealed = Sealer(tmp_path).seal()
    after = {record.request_id: repr(record) for record in records_of(Records(tmp_path).page(Conditions(), 99).table)}
    assert (67, [], before) == (sealed.records, sealed.problems, after)
    assert [] == list(tmp_path.glob("worker-*/*"))
    assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert ([], []) == (Sealer(tmp_path).seal().entries, list(tmp_path.rglob("*.partial")))


def test_the_index_says_what_is_where(tmp_path: Path) -> None:
    """An entry has the chain head, and of each file checksum, count and range; the file names its segment and head."""
    two_segments(tmp_path)
    Sealer(tmp_path).seal()
    first = read_index(tmp_path)[0]
    assert [
        ("churn", "2026-11-20", 34),
        ("churn", "2026-11-21", 1),
        ("growth", "2026-11-20", 10),
        (None, "2026-11-20", 2),
    ] == [(file.model, file.day, file.records) for file in sorted(first.files, key=lambda file: file.model or "z")]
    for file in first.files:
        assert digest_of(tmp_path / file.path) == file.sha256
        said = pq.read_metadata(tmp_path / file.path).metadata
        assert (first.head, first.segment) == (said[b"penstock.head"].decode(), said[b"penstock.segment"].decode())
        assert pq.read_metadata(tmp_path / file.path).row_group(0).column(0).compression == "ZSTD"


def seal(audit: Path, step: Callable[[str], None]) -> object:
    """Seal all there is."""
    return Sealer(audit, step=step).seal()


def test_a_crash_at_any_step(tmp_path: Path) -> None:
    """Wherever sealing is cut short, every record is there exactly once, then and after the next start."""
    two_segments(tmp_path / "count")
    everything = ids(tmp_path / "count")
    count = steps_of(tmp_path / "count", seal)
    assert 14 == count
    for step in range(count):
        audit = tmp_path / str(step)
        two_segments(audit)
        with pytest.raises(Crash):
            seal(audit, crash_at(step))
        assert everything == ids(audit), step
        for again in (step // 2, step):  # and once more, while it is mended
            try:
                seal(audit, crash_at(again))
            except Crash:
                assert everything == ids(audit), (step, again)
        assert [] == Sealer(audit).seal().problems
        assert everything == ids(audit), step
        there = {path.relative_to(audit).as_posix() for path in audit.rglob("*") if path.is_file()}
        assert {entry.segment for entry in read_index(audit)} & there == set()
        assert {file.path for entry in read_index(audit) for file in entry.files} == {
            path for path in there if path.endswith(".parquet")
        }
        assert 7 == len(there), step


def test_a_torn_tail_is_cut_and_reported(tmp_path: Path) -> None:
    """What a crash left behind the last whole write is cut; all that was acknowledged is sealed."""
    path = write(tmp_path, map(answered, range(8)))
    path.write_bytes(path.read_bytes() + b'{"seq":9,"kind":"pred')
    told: list[str] = []
    sealed = Sealer(tmp_path, step=told.append).seal()
    assert (8, [], f"recovered {path.name}") == (sealed.records, sealed.problems, told[0])


def test_a_broken_segment_stays(tmp_path: Path) -> None:
    """A changed segment is evidence: it stays as it is and is told of, and the others are sealed."""
    broken = write(tmp_path, map(answered, range(8)))
    data = broken.read_bytes().replace(b"customer-3", b"customer-4")
    broken.write_bytes(data)
    write(tmp_path, map(answered, range(100, 108)), worker=1)
    sealed = Sealer(tmp_path).seal()
    assert (8, data) == (sealed.records, broken.read_bytes())
    assert [True] == ["worker-0/" in problem and "broken" in problem for problem in sealed.problems]


def test_a_segment_that_is_written_is_left_alone(tmp_path: Path) -> None:
    """The segment of a worker that lives is not sealed, though its records are searched; nor one written just now."""

    async def main() -> tuple[int, Counter[str]]:
        async with AuditLog(tmp_path) as log:
            await log.flushed(log.append(answered(1)))
            return Sealer(tmp_path).seal().records, ids(tmp_path)

    assert (0, Counter({"0190-00000001": 1})) == asyncio.run(main())
    assert 0 == Sealer(tmp_path).seal(quiet_s=60).records
    assert 1 == Sealer(tmp_path).seal().records


def test_a_segment_that_is_needed_stays(tmp_path: Path) -> None:
    """A segment that a follower has not passed stays beside its files, and each record counts once; then it goes."""
    path = write(tmp_path, map(answered, range(8)))
    Sealer(tmp_path, is_passed=lambda segment: False).seal()
    assert (True, 8, {1}) == (path.exists(), len(ids(tmp_path)), set(ids(tmp_path).values()))
    Sealer(tmp_path).tidy()
    assert (False, 8) == (path.exists(), len(ids(tmp_path)))


def test_a_file_that_nothing_explains_stays(tmp_path: Path) -> None:
    """Whoever loses the index does not lose the records as well."""
    write(tmp_path, map(answered, range(8)))
    Sealer(tmp_path).seal()
    for entry in tmp_path.glob("sealed/_index/*"):
        entry.unlink()
    Sealer(tmp_path).tidy()
    assert 1 == len(list(tmp_path.rglob("*.parquet")))


def test_an_entry_that_cannot_be_read(tmp_path: Path) -> None:
    """An entry of the index that is not ours stops sealing and reading, naming the file."""
    write(tmp_path, map(answered, range(8)))
    Sealer(tmp_path).seal()
    entry = next(tmp_path.glob("sealed/_index/*"))
    entry.write_bytes(b"{}")
    with pytest.raises(SegmentError, match=entry.name):
        Sealer(tmp_path).seal()
    with pytest.raises(SegmentError, match=entry.name):
        ids(tmp_path)


def sealed_file(model: str | None, age_days: float, size_bytes: int) -> SealedFile:
    """A file whose last record is so old."""
    at = AT - timedelta(days=age_days)
    return SealedFile(
        path=f"{model}/{age_days}",
        model=model,
        day=at.date().isoformat(),
        records=1,
        size_bytes=size_bytes,
        sha256="",
        first_at=at,
        last_at=at,
        first_id="",
        last_id="",
    )


def test_what_is_due() -> None:
    """Of each model goes what is too old, and the oldest of what is too much, by rules of its own if it has any;
    nothing of one on hold.
    """
    files = [
        sealed_file("a", 31, 10),
        sealed_file("a", 29, 10),
        sealed_file("b", 3, 60),
        sealed_file("b", 2, 60),
        sealed_file("b", 1, 60),
        sealed_file("c", 99, 500),
        sealed_file("d", 3, 10),
        sealed_file("d", 1.5, 10),
        sealed_file("d", 1, 10),
        sealed_file(None, 40, 1),
    ]
    rule = Retention(
        bounds=Bounds(days=30, max_bytes=100),
        models={"d": Bounds(days=2, max_bytes=15)},
        hold=frozenset({"c"}),
    )
    assert {
        "a/31": "older than 30 days",
        "b/3": "the model had more than 100 bytes",
        "b/2": "the model had more than 100 bytes",
        "d/3": "older than 2 days",
        "d/1.5": "the model had more than 15 bytes",
        "None/40": "older than 30 days",
    } == {each.file.path: each.why for each in due(files, rule, AT)}
    gone = [msgspec.structs.replace(file, gone=None) for file in files]
    assert 6 == len(due(gone, rule, AT))


def test_retention_at_any_step(tmp_path: Path) -> None:
    """Wherever retention is cut short, what is not due is there once, and what is due goes; the index tells."""
    rule = Retention(bounds=Bounds(days=1), hold=frozenset({"growth"}))
    now = AT + timedelta(days=2, minutes=-1)

    def work(audit: Path, step: Callable[[str], None]) -> object:
        return retain(audit, rule, now, step)

    two_segments(tmp_path / "count")
    Sealer(tmp_path / "count").seal()
    count = steps_of(tmp_path / "count", work)
    kept = ids(tmp_path / "count")
    assert (5, 11) == (count, sum(kept.values()))
    for step in range(count):
        audit = tmp_path / str(step)
        two_segments(audit)
        Sealer(audit).seal()
        with pytest.raises(Crash):
            work(audit, crash_at(step))
        Sealer(audit).tidy()
        retain(audit, rule, now)
        assert kept == ids(audit), step
        gone = [file for entry in read_index(audit) for file in entry.files if file.gone is not None]
        assert {"older than 1 days"} == {file.gone.why for file in gone if file.gone is not None}
        assert 3 == len(gone)
        assert 2 == len(list(audit.rglob("*.parquet")))
