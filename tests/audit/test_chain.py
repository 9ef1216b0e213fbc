"""Verification: whatever is changed in a segment is found and named."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.audit import AuditLog, Record, read_records, recover, verify
from penstock.audit.commitment import erased
from penstock.audit.segment import commit_line, parse_commit, sha256_hex
from penstock.errors import SegmentError

AT = datetime(2026, 11, 20, 11, 43, 12, 345678, tzinfo=UTC)
TICKS = (1, 3, 2, 1, 4)
READ_ONLY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a segment with 11 records in 5 writes."""

    async def main() -> Path:
        async with AuditLog(tmp_path_factory.mktemp("audit")) as log:
            for rows in TICKS:
                for row in range(rows):
                    seq = log.append(Record(kind="prediction", request_id=f"r{row}", at=AT, input=[{"name": "Ünïc"}]))
                await log.flushed(seq)
            return log.path

    return asyncio.run(main()).read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test puts its segment, as a dead process would have left it."""
    (tmp_path / "worker-0").mkdir()
    return tmp_path / "worker-0" / "segment.jsonl"


def lines_of(whole: bytes) -> list[bytes]:
    """The lines with their newlines."""
    return whole.splitlines(keepends=True)


def record_lines(whole: bytes) -> list[int]:
    """The indexes of the lines that are records."""
    return [index for index, line in enumerate(lines_of(whole)) if line.startswith(b'{"seq"')]


def test_a_whole_segment_is_intact(whole: bytes, path: Path) -> None:
    """An untouched segment is intact to its last byte, and the report counts its records."""
    path.write_bytes(whole)
    report = verify(path)
    assert (None, 11, 1, 11, 0) == (report.broken, report.records, report.first, report.last, report.dropped)
    assert (len(whole), 0) == (report.good_bytes, report.torn_bytes)
    assert sha256_hex(lines_of(whole)[-1]) == report.head


@READ_ONLY
@given(data=st.data())
def test_any_changed_byte_is_found(whole: bytes, path: Path, data: st.DataObject) -> None:
    """Whichever byte is changed to whatever else, the segment is not taken for whole."""
    position = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[position]))
    path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
    report = verify(path)
    assert report.broken is not None or (report.torn_bytes > 0 and position == len(whole) - 1)
    if report.broken is not None:
        assert report.good_bytes <= position


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_every_single_byte_counts(whole: bytes, path: Path, flip: int) -> None:
    """A flipped bit at every one of the segment's positions is found, and only what stands before it is called good."""
    missed = []
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])
        report = verify(path)
        if report.good_bytes > position or (report.broken is None and report.torn_bytes == 0):
            missed.append(position)
    assert [] == missed


@READ_ONLY
@given(data=st.data())
def test_a_removed_record_is_found(whole: bytes, path: Path, data: st.DataObject) -> None:
    """Without one of its records a segment is broken, and the report names a record of that write."""
    index = data.draw(st.sampled_from(record_lines(whole)))
    lines = lines_of(whole)
    removed = record_lines(whole).index(index) + 1
    del lines[index]
    path.write_bytes(b"".join(lines))
    broken = verify(path).broken
    assert broken is not None
    assert broken.first is not None
    assert broken.first <= removed


@READ_ONLY
@given(data=st.data())
def test_an_inserted_line_is_found(whole: bytes, path: Path, data: st.DataObject) -> None:
    """A line that is repeated anywhere breaks the segment, or is a tail that nobody committed."""
    lines = lines_of(whole)
    line = data.draw(st.sampled_from(lines))
    place = data.draw(st.integers(0, len(lines)))
    path.write_bytes(b"".join([*lines[:place], line, *lines[place:]]))
    report = verify(path)
    assert report.broken is not None
    assert report.records <= 11


@READ_ONLY
@given(data=st.data())
def test_swapped_lines_are_found(whole: bytes, path: Path, data: st.DataObject) -> None:
    """Two lines in each other's place break the segment at the first of them or at the end of its write."""
    lines = lines_of(whole)
    one, other = sorted(data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True)))
    lines[one], lines[other] = lines[other], lines[one]
    path.write_bytes(b"".join(lines))
    report = verify(path)
    assert report.broken is not None
    assert report.good_bytes <= sum(map(len, lines_of(whole)[:one]))


@READ_ONLY
@given(data=st.data())
def test_a_removed_write_is_found(whole: bytes, path: Path, data: st.DataObject) -> None:
    """A whole write taken out of the middle breaks the chain at the one that follows."""
    lines = lines_of(whole)
    commits = [index for index, line in enumerate(lines) if parse_commit(line) is not None]
    which = data.draw(st.integers(1, len(commits) - 2))
    del lines[commits[which - 1] + 1 : commits[which] + 1]
    path.write_bytes(b"".join(lines))
    assert verify(path).broken is not None


def test_a_forged_commit_breaks_the_one_after(whole: bytes, path: Path) -> None:
    """A record changed together with the hash of its own write is found by the next commit line."""
    lines = lines_of(whole)
    index = record_lines(whole)[0]
    lines[index] = lines[index].replace(b"prediction", b"refusal")
    commit = parse_commit(lines[index + 1])
    assert commit is not None
    forged = commit_line(
        type(commit)(first=1, last=1, sha256=sha256_hex(erased(lines[index]) or b""), prev=commit.prev)
    )
    lines[index + 1] = forged
    path.write_bytes(b"".join(lines))
    broken = verify(path).broken
    assert broken is not None
    assert (f"a commit that follows {sha256_hex(forged)}", 2) == (broken.expected, broken.first)


def test_every_torn_end_is_told_apart_and_cut(whole: bytes, path: Path) -> None:
    """A segment that ends anywhere is torn, never broken; recovery cuts it to its last commit and says how much."""
    ends = [0]
    for line in lines_of(whole):
        ends.append(ends[-1] + len(line))
    commit_ends = [0] + [end for end, line in zip(ends[1:], lines_of(whole), strict=True) if line[:9] == b'{"commit"']
    wrong = []
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        report = verify(path)
        good = max(end for end in commit_ends if end <= size)
        if (None, good, size - good) != (report.broken, report.good_bytes, report.torn_bytes):
            wrong.append((size, report))
        if size % 7 == 0:  # one in seven: each cut is an fsync
            cuts = [one.cut_bytes for one in recover(path.parent.parent)]
            if cuts != ([size - good] if size > good else []) or path.read_bytes() != whole[:good]:
                wrong.append((size, cuts))
    assert [] == wrong


def test_only_committed_records_are_read(whole: bytes, path: Path) -> None:
    """Records of a write without its commit line are left out, without an error."""
    path.write_bytes(whole[: whole.rindex(b'{"commit"') + 20])
    assert list(range(1, 8)) == [record.seq for record in read_records(path)]


def test_reading_stops_loudly_at_a_broken_place(whole: bytes, path: Path) -> None:
    """Records before the broken write are read, then an error says where and what."""
    lines = lines_of(whole)
    lines[record_lines(whole)[4]] = lines[record_lines(whole)[4]].replace(b"r0", b"r9")
    path.write_bytes(b"".join(lines))
    records = read_records(path)
    assert [1, 2, 3, 4] == [next(records).seq for _ in range(4)]
    with pytest.raises(SegmentError, match="records 5 to 6"):
        next(records)


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (b'{"header": {', b'{"header":{'),
        (b'{"commit":{"first":1,"last":0,"dropped":1', b'{"commit":{"first":1,"last":0'),
        (b'{"seq": 5,', b'{"seq":5,'),
    ],
    ids=["header", "commit", "record"],
)
def test_what_is_added_to_a_line_is_found(whole: bytes, path: Path, bad: bytes, good: bytes) -> None:
    """Bytes that leave the JSON valid are found as well."""
    assert good in whole
    path.write_bytes(whole.replace(good, bad))
    assert not verify(path).is_intact


def test_another_format_is_named(whole: bytes, path: Path) -> None:
    """A segment of a later format is not read as if it were ours, and the report says so."""
    path.write_bytes(whole.replace(b'{"header":{"format":2', b'{"header":{"format":3'))
    broken = verify(path).broken
    assert broken is not None
    assert "Expected a segment of format 2, got format 3, of another Penstock - at line 1" == str(broken)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """A path that cannot be read raises SegmentError with the path."""
    with pytest.raises(SegmentError, match="nowhere"):
        verify(tmp_path / "nowhere.jsonl")


@READ_ONLY
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_reported_not_raised(path: Path, content: bytes) -> None:
    """A file of anything is broken, torn or empty; it never looks like records and never raises."""
    path.write_bytes(content)
    report = verify(path)
    assert (0, 0) == (report.records, report.good_bytes)
    assert (report.broken is not None) or report.torn_bytes == len(content)
