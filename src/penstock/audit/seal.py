"""Sealing: a segment that no worker writes any more becomes Parquet files and an entry of the index, then goes.

The entry is the moment that counts: before it the records are in the segment, after it in the files. A crash anywhere
loses and doubles nothing; `tidy` takes away what it left. One process at a time, which holds the lock of the home.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.audit.chain import ChainReport, verify
from penstock.audit.columns import FORMAT, Gathering, Group, Source
from penstock.audit.recovery import recover
from penstock.audit.sealed import FORMAT as INDEX_FORMAT
from penstock.audit.sealed import (
    PARQUET,
    PARTIAL,
    REWRITTEN,
    SEALED,
    SealedFile,
    SealedSegment,
    committed_writes,
    file_path,
    name_of,
    read_index,
    relative,
    segments,
    write_entry,
)
from penstock.audit.segment import Commit, digest_of, held, parse_commit
from penstock.durable import make_directory, sync_directory
from penstock.errors import SegmentError

_ROW_GROUP: Final = 20_000
_LEVEL: Final = 3


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass did: the entries that it made, and why other segments stay as they are."""

    entries: list[SealedSegment]
    problems: list[str]

    @property
    def records(self) -> int:
        """How many records were sealed."""
        return sum(entry.records for entry in self.entries)


class Sealer:
    """Seals the segments below `directory` (`<home>/audit`).

    `is_passed` says of a segment's path below it whether every reader of segments has done with it; until then it
    stays beside its files, and counts no more. `step` is told of each thing before it is done. `clock`: Unix seconds.
    """

    def __init__(
        self,
        directory: Path,
        *,
        is_passed: Callable[[str], bool] = lambda segment: True,
        step: Callable[[str], None] = lambda what: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._is_passed = is_passed
        self._step = step
        self._clock = clock

    def seal(self, *, quiet_s: float = 0.0) -> Sealed:
        """Seal every segment that is closed and was not written for `quiet_s`. Raises SegmentError and OSError for what
        concerns all of them; the next call goes on where this one ended.
        """
        self.tidy()
        for found in recover(self._directory):
            self._step(f"recovered {found.path.name}")
        known = {entry.segment for entry in read_index(self._directory)}
        done = Sealed(entries=[], problems=[])
        for path in segments(self._directory):
            if relative(self._directory, path) in known:
                continue
            try:
                with _held(path, self._clock() - quiet_s) as file:
                    entry = None if file is None else self._sealed(path, file)
            except SegmentError as error:  # evidence: it stays, and the others go on
                done.problems.append(f"{path.parent.name}/{path.name} stays as it is: {error}")
                continue
            if entry is not None:
                done.entries.append(entry)
        return done

    def tidy(self) -> None:
        """Take away what a crash left: partial files, files that the entry of their segment does not name, or that have
        none yet, and segments that are sealed. A file that neither a segment nor the index explains is left alone.
        """
        index = read_index(self._directory)
        counted = {file.path for entry in index for file in entry.files if file.gone is None}
        known = {entry.segment for entry in index}
        found = {relative(self._directory, path): path for path in segments(self._directory)}
        explained = {entry.name for entry in index} | {name_of(segment) for segment in found}
        for path in sorted((self._directory / SEALED).rglob("*")):
            is_ours = path.suffix == PARQUET and path.stem.partition(REWRITTEN)[0] in explained
            if path.suffix == PARTIAL or (is_ours and relative(self._directory, path) not in counted):
                self._remove(path)
        for segment, path in found.items():
            if segment in known and self._is_passed(segment):
                self._remove(path)

    def _sealed(self, path: Path, file: BinaryIO) -> SealedSegment | None:
        report = verify(path)
        if report.broken is not None:
            raise SegmentError(f"it is broken: {report.broken}")
        if report.header is None or report.head is None:  # cut at birth: nothing was ever in it
            return None
        if report.torn_bytes:
            self._step(f"cut {path.name}")
            os.ftruncate(file.fileno(), report.good_bytes)
        with _uncollected():
            entry = self._written(path, report, digest_of(path))
        self._step(f"index {path.name}")
        write_entry(self._directory, entry)
        if self._is_passed(entry.segment):
            self._remove(path)
        return entry

    def _written(self, path: Path, report: ChainReport, sha256: str) -> SealedSegment:
        header, head = report.header, report.head
        if header is None or head is None:
            raise SegmentError("it has no header")
        gathering = Gathering(Source(header.worker, header.run))
        words: list[Commit] = []
        for lines, commit_line in committed_writes(path):
            for place, line in enumerate(lines, start=1):
                gathering.take(line, ends_write=place == len(lines))
            if not lines or b'"dropped":' in commit_line or b'"lost":' in commit_line:
                words += [commit] if (commit := parse_commit(commit_line)) is not None else []
        if gathering.records != report.records:
            raise SegmentError(f"expected its {report.records} records, read {gathering.records}")
        entry = SealedSegment(
            format=INDEX_FORMAT,
            segment=relative(self._directory, path),
            header=header,
            records=report.records,
            first=report.first,
            last=report.last,
            next=report.next,
            dropped=report.dropped,
            lost=report.lost,
            head=head,
            size_bytes=report.good_bytes,
            sha256=sha256,
            torn_bytes=report.torn_bytes,
            words=tuple(words),
            sealed_at=datetime.fromtimestamp(self._clock(), UTC),
        )
        files = tuple(self._file(entry, group, table) for group, table in gathering.tables())
        return msgspec.structs.replace(entry, files=files)

    def _file(self, entry: SealedSegment, group: Group, table: pa.Table) -> SealedFile:
        """Write the table of one group; whole under its name, or not there."""
        model = group.model or None
        name = file_path(model, group.day, entry.name)
        path = self._directory / name
        make_directory(path.parent)
        partial = path.with_suffix(PARTIAL)
        self._step(f"write {name}")
        write_parquet(table, entry, partial)
        self._step(f"name {name}")
        partial.replace(path)
        sync_directory(path.parent)
        ats, ids = pc.min_max(table["arrived_at"]), pc.min_max(table["request_id"])
        return SealedFile(
            path=name,
            model=model,
            day=group.day,
            records=len(table),
            size_bytes=path.stat().st_size,
            sha256=digest_of(path),
            first_at=ats["min"].as_py(),
            last_at=ats["max"].as_py(),
            first_id=ids["min"].as_py(),
            last_id=ids["max"].as_py(),
        )

    def _remove(self, path: Path) -> None:
        self._step(f"remove {path.name}")
        path.unlink(missing_ok=True)
        sync_directory(path.parent)


def write_parquet(table: pa.Table, entry: SealedSegment, path: Path) -> None:
    """Write a file of sealed records to `path`, down to the disk; its metadata say which segment it is of."""
    said = {
        "penstock.format": str(FORMAT),
        "penstock.segment": entry.segment,
        "penstock.header": msgspec.json.encode(entry.header),
        "penstock.head": entry.head,
        "penstock.sha256": entry.sha256,
    }
    table = table.replace_schema_metadata(said)
    with path.open("wb") as file:
        path.chmod(0o600)
        pq.write_table(table, file, compression="zstd", compression_level=_LEVEL, row_group_size=_ROW_GROUP)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No search for circles while the block runs, which makes millions of objects and no circle: a sixth of its time.
    Of several threads in such blocks the first one ends the pause, and all do in the end.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _held(path: Path, before_s: float) -> Iterator[BinaryIO | None]:
    """The segment, locked; None where a worker writes it, or did after `before_s`."""
    with held(path) as file:
        yield file if file is not None and os.fstat(file.fileno()).st_mtime <= before_s else None
