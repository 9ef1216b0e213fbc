"""The proof of a whole log: what was changed in it is found and named, sealed or not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from penstock.audit import AuditLog
from penstock.audit.columns import lines_of
from penstock.audit.proof import prove
from penstock.audit.seal import Sealer
from penstock.audit.sealed import entry_path, read_index, write_entry
from records import answered, odd_ones, write


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A log with 60 records of two models in writes of several, sealed."""
    numbers = range(10, 60)
    write(tmp_path, [*(answered(n, model="churn" if n % 3 else "growth") for n in numbers), *odd_ones()], ticks=7)
    Sealer(tmp_path).seal()
    return tmp_path


def rewritten(audit: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a sealed file and its checksum with it, as a careful hand would."""
    entry = read_index(audit)[0]
    files = []
    for file in entry.files:
        if file.model == "churn" and file.day == "2026-11-20":
            path = audit / file.path
            pq.write_table(change(pq.read_table(path)), path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            file = msgspec.structs.replace(file, sha256=digest)
        files.append(file)
    write_entry(audit, msgspec.structs.replace(entry, files=tuple(files)))


def with_lines(table: pa.Table, change: Callable[[bytes], bytes]) -> pa.Table:
    """The table with other texts in `envelope` and `payload`: those of changed lines."""
    texts = [change(line).decode().rstrip("\n") for line in lines_of(table)]
    for name, values in (("envelope", texts), ("payload", [None] * len(texts))):
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    return table


def test_a_whole_log(sealed: Path) -> None:
    """What is sealed is proven from the records themselves, up to the chain head of the segment."""
    write(sealed, map(answered, range(5)), worker=1)
    proof = prove(sealed)
    assert (2, 1, 62, []) == (proof.segments, proof.sealed, proof.records, proof.problems)


CHANGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "removed": lambda table: table.slice(1),
    "removed at the end": lambda table: table.slice(0, len(table) - 1),
    "doubled": lambda table: pa.concat_tables([table.slice(0, 1), table]),
    "swapped": lambda table: pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)]),
    "another envelope": lambda table: with_lines(
        table, lambda line: line.replace(b'"total_ms":1.5', b'"total_ms":2.5')
    ),
    "another payload": lambda table: table.set_column(
        table.column_names.index("payload"), "payload", pc.replace_substring(table["payload"], "yes", "no")
    ),
    "other writes": lambda table: table.set_column(
        table.column_names.index("ends_write"), "ends_write", pc.invert(table["ends_write"])
    ),
    "another table": lambda table: pa.table({"a": [1]}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_file_is_found(sealed: Path, what: str) -> None:
    """Whoever changes a sealed file and its checksum in the index as well is found by the chain."""
    rewritten(sealed, CHANGES[what])
    assert 1 == len(prove(sealed).problems)


def test_checksums_and_counts(sealed: Path) -> None:
    """A changed or missing file, and an index that lies of it, are named."""
    files = read_index(sealed)[0].files
    (sealed / files[0].path).write_bytes(b"PAR1")
    (sealed / files[1].path).unlink()
    problems = prove(sealed).problems
    assert ["Expected SHA-256" in problems[0], "is missing" in problems[1]] == [True, True]
    entry = read_index(sealed)[0]
    write_entry(sealed, msgspec.structs.replace(entry, files=files[:1]))
    assert any("the index counts others" in problem for problem in prove(sealed).problems)


def four_segments(audit: Path) -> None:
    """A run of segments, the first without a record, one record in each of four more."""

    async def main() -> None:
        async with AuditLog(audit, segment_bytes=1) as log:
            for number in range(4):
                await log.flushed(log.append(answered(number)))

    asyncio.run(main())


@pytest.mark.parametrize("sealed_before", [False, True])
@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_removed_segment(tmp_path: Path, place: int, sealed_before: bool) -> None:
    """A segment that is gone, or its entry of the index with all its files, leaves a gap in its run."""
    four_segments(tmp_path)
    if sealed_before:
        Sealer(tmp_path).seal()
    assert [] == prove(tmp_path).problems
    if sealed_before:
        entry = read_index(tmp_path)[place]
        entry_path(tmp_path, entry.name).unlink()
        assert 1 + len(entry.files) == len(prove(tmp_path).problems)
        for file in entry.files:
            (tmp_path / file.path).unlink()
    else:
        sorted(tmp_path.glob("worker-0/*"))[place].unlink()
    assert 1 == len(prove(tmp_path).problems)


def test_the_last_entry_of_the_index(tmp_path: Path) -> None:
    """Where the last entry of a run is gone its files speak of it, as long as they are there."""
    four_segments(tmp_path)
    Sealer(tmp_path).seal()
    entry_path(tmp_path, read_index(tmp_path)[-1].name).unlink()
    assert ["Expected an entry of the index for it" in each for each in prove(tmp_path).problems] == [True]


def test_segments_that_change_places(tmp_path: Path) -> None:
    """A file of another segment, with its own valid checksum put into the index, is none of this one."""
    four_segments(tmp_path)
    Sealer(tmp_path).seal()
    first, second = read_index(tmp_path)[1:3]
    write_entry(tmp_path, msgspec.structs.replace(first, files=second.files))
    assert [first.name] == [each.partition(":")[0] for each in prove(tmp_path).problems]
