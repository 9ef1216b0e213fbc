"""Erasing by law from what is sealed: Parquet files are written anew without the payloads of some records.

As with segments (`erase.py`): the new file is written, the event noted, then the index names the new file instead of
the old one, which goes. A crash in between leaves files that `Sealer.tidy` removes; erasing again does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from penstock.audit.columns import Gathering, Source, records_of, written
from penstock.audit.commitment import blanked
from penstock.audit.erase import Erasures, Wanted
from penstock.audit.pseudonyms import Pseudonyms
from penstock.audit.seal import write_parquet
from penstock.audit.sealed import (
    PARQUET,
    PARTIAL,
    REWRITTEN,
    SealedFile,
    SealedSegment,
    read_index,
    write_entry,
)
from penstock.audit.segment import digest_of
from penstock.durable import sync_directory


def erase_sealed(
    audit: Path, wanted: Wanted, pseudonyms: Pseudonyms, *, step: Callable[[str], None] = lambda what: None
) -> int:
    """Take the payloads of the records that `wanted` takes out of all sealed files; how many records that were.

    `step` is told of each thing before it is done. Only the holder of the
    home's lock does this. Raises SegmentError and OSError.
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


def _seqs(audit: Path, file: SealedFile, wanted: Wanted) -> frozenset[int]:
    """The numbers of the records in `file` that are wanted and have a payload yet."""
    if file.gone is not None or not (wanted.keys or _spans(file, wanted)):
        return frozenset()
    records = records_of(pq.read_table(audit / file.path))
    return frozenset(record.seq for record in records if wanted.takes(record) and record.salt is not None)


def _spans(file: SealedFile, wanted: Wanted) -> bool:
    return any(file.first_id <= request_id <= file.last_id for request_id in wanted.request_ids)


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
