"""Erasing by law from what is sealed: Parquet files are written anew without the payloads of some records.

As with segments (`erase.py`): the new file is written, the event noted, then the index names the new file instead of
the old one, which goes. A crash in between leaves files that `Sealer.tidy` removes; erasing again does the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.audit.columns import Gathering, Source, written
from penstock.audit.commitment import blanked
from penstock.audit.erase import Erasures, Wanted
from penstock.audit.feedback import KIND
from penstock.audit.pseudonyms import Pseudonyms
from penstock.audit.seal import write_parquet
from penstock.audit.sealed import (
    PARQUET,
    PARTIAL,
    REWRITTEN,
    SealedFile,
    SealedSegment,
    Snapshot,
    read_index,
    write_entry,
)
from penstock.audit.segment import digest_of
from penstock.durable import sync_directory

_COLUMNS: Final = pa.schema(
    [
        ("seq", pa.int64()),
        ("request_id", pa.string()),
        ("key", pa.string()),
        ("kind", pa.string()),
        ("model", pa.string()),
        ("arrived_at", pa.timestamp("us", "UTC")),
    ]
)


def erase_sealed(
    audit: Path, wanted: Wanted, pseudonyms: Pseudonyms, *, step: Callable[[str], None] = lambda what: None
) -> int:
    """Take the payloads of the records that `wanted` takes out of all sealed files; how many records that were.

    `step` is told of each thing before it is done. Only the holder of the home's lock does this.
    Raises SegmentError and OSError.
    """
    wanted, how = wanted.with_pseudonyms(pseudonyms), (Erasures(audit, pseudonyms), datetime.now(UTC), step)
    count = 0
    for entry in read_index(audit):
        for file in entry.files:
            seqs = _seqs(audit, file, wanted)
            if seqs:
                entry = _rewritten(audit, entry, file, seqs=seqs, how=how)
                count += len(seqs)
    return count


def sealed_calls(taken: Snapshot, wanted: Wanted) -> Iterator[tuple[str, str | None, datetime]]:
    """Id, model and time of each sealed record that `wanted`, which has pseudonyms, takes, erased or not."""
    for file in taken.files():
        table = _taken(taken.directory, file, wanted)
        yield from zip(*(table[name].to_pylist() for name in ("request_id", "model", "arrived_at")), strict=True)


def _seqs(audit: Path, file: SealedFile, wanted: Wanted) -> frozenset[int]:
    """The numbers of the records in `file` that are wanted and have a payload yet."""
    if file.gone is not None:
        return frozenset()
    seqs = frozenset(_taken(audit, file, wanted)["seq"].to_pylist())
    if not seqs:
        return seqs
    table = pq.read_table(audit / file.path, columns=["seq", "payload"])
    return seqs & frozenset(table.filter(pc.is_valid(table["payload"]))["seq"].to_pylist())


def _taken(audit: Path, file: SealedFile, wanted: Wanted) -> pa.Table:
    """What identifies the records in `file` that `wanted` takes: as `Wanted.takes`, for many at once."""
    if not wanted.keys and not any(file.first_id <= one <= file.last_id for one in wanted.request_ids | wanted.calls):
        return _COLUMNS.empty_table()
    table = pq.read_table(audit / file.path, columns=_COLUMNS.names).cast(_COLUMNS)
    is_feedback = pc.and_(pc.equal(table["kind"], KIND), _is_in(table["request_id"], wanted.calls))
    by_name = pc.or_(_is_in(table["request_id"], wanted.request_ids), _is_in(table["key"], wanted.keys))
    return table.filter(pc.or_(by_name, is_feedback))


def _is_in(column: Any, texts: frozenset[str]) -> Any:
    return pc.is_in(column, value_set=pa.array(sorted(texts), pa.string()))


def _rewritten(
    audit: Path,
    entry: SealedSegment,
    file: SealedFile,
    *,
    seqs: frozenset[int],
    how: tuple[Erasures, datetime, Callable[[str], None]],
) -> SealedSegment:
    """The entry with a new file in the place of `file`, which is gone."""
    erasures, at, step = how
    old = audit / file.path
    stem, _, number = old.stem.partition(REWRITTEN)
    path = old.with_name(f"{stem}{REWRITTEN}{int(number or 0) + 1}{PARQUET}")
    partial = path.with_suffix(PARTIAL)
    table = pq.read_table(old)
    gathering = Gathering(Source(entry.header.worker, entry.header.run))
    for seq, (line, ends) in zip(table["seq"].to_pylist(), written(table), strict=True):
        gathering.take(blanked(line) if seq in seqs else line, ends_write=ends)
    [(_, fresh)] = gathering.tables()
    step(f"write {path.name}")
    write_parquet(fresh, entry, partial)
    partial.replace(path)
    sync_directory(path.parent)
    digest = digest_of(path)
    step(f"note {path.name}")
    erasures.note(file=file.path, before=file.sha256, after=digest, seqs=seqs, at=at)
    new = msgspec.structs.replace(
        file, path=path.relative_to(audit).as_posix(), size_bytes=path.stat().st_size, sha256=digest
    )
    entry = msgspec.structs.replace(entry, files=tuple(new if each is file else each for each in entry.files))
    step(f"index {path.name}")
    write_entry(audit, entry)
    step(f"remove {old.name}")
    old.unlink()
    sync_directory(old.parent)
    return entry
