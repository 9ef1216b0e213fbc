"""Erasing from exports: the lines of some calls go out of a file that Penstock wrote and nobody has changed since.

As with segments the new file is written beside, the event noted with both checksums, then it takes the old one's place.
What does not say of which call each line is, or is not there as it was, is left to a person.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from penstock.audit.erase import Erasures, Wanted
from penstock.audit.segment import digest_of
from penstock.durable import sync_directory

_SILENT: Final = "it does not say of which call each line is"
_BATCH_ROWS: Final = 20_000
Rewrite: TypeAlias = Callable[[Path, BinaryIO, Wanted], int]


class LeftToHand(Exception):
    """Why an export has to be erased by hand."""


def erase_export(
    path: Path, sha256: str, wanted: Wanted, erasures: Erasures, *, step: Callable[[str], None] = lambda what: None
) -> int:
    """Take the lines of `wanted.request_ids` and `wanted.keys` out of the export `path`, whose bytes had this SHA-256
    when it was written; how many went. `step` is told of each thing before it is done.

    Raises LeftToHand, and then nothing was changed; SegmentError where the event cannot be noted.
    """
    try:
        digest = digest_of(path)
        if path.is_symlink() or digest not in _known(path, sha256, erasures):
            raise LeftToHand("it is not the file that was written")
        rewrite = _REWRITES.get(path.suffix)
        if rewrite is None:
            raise LeftToHand(_SILENT)
        fresh = path.with_name(f".{path.name}.erasing")
        fresh.unlink(missing_ok=True)
        try:
            step(f"write {fresh.name}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as new:
                count = rewrite(path, new, wanted)
                os.fchown(new.fileno(), path.stat().st_uid, path.stat().st_gid)  # or it is not ours to write
                os.fchmod(new.fileno(), path.stat().st_mode & 0o777)
                new.flush()
                os.fsync(new.fileno())
            if count:
                step(f"note {path.name}")
                erasures.note(file=str(path), before=digest, after=digest_of(fresh), seqs=(), at=datetime.now(UTC))
                step(f"replace {path.name}")
                fresh.replace(path)
                sync_directory(path.parent)
        finally:
            fresh.unlink(missing_ok=True)
    except FileNotFoundError:
        raise LeftToHand("it is not at this path any more") from None
    except OSError as error:
        raise LeftToHand(f"it cannot be written anew: {error.strerror}") from error
    except (pa.ArrowException, msgspec.MsgspecError, csv.Error, UnicodeDecodeError) as error:
        raise LeftToHand(f"it cannot be read: {error}") from error
    return count


def _known(path: Path, sha256: str, erasures: Erasures) -> set[str]:
    """The checksums that the export may have: as it was written, and as each erasing left it."""
    known = {sha256}
    for entry in erasures.entries():
        if entry.file == str(path) and entry.before in known:
            known.add(entry.after)
    return known


def _parquet(path: Path, new: BinaryIO, wanted: Wanted) -> int:
    count = 0
    with pq.ParquetFile(path) as old:
        if "request_id" not in old.schema_arrow.names:
            raise LeftToHand(_SILENT)
        with pq.ParquetWriter(new, old.schema_arrow, compression="zstd") as writer:
            for batch in old.iter_batches(_BATCH_ROWS):
                goes = _is_in(batch, "request_id", wanted.request_ids)
                if "key" in batch.schema.names:
                    goes = pc.or_(goes, _is_in(batch, "key", wanted.keys))
                kept = batch.filter(pc.invert(goes))
                count += len(batch) - len(kept)
                writer.write_batch(kept)
    return count


def _is_in(batch: pa.RecordBatch, name: str, texts: frozenset[str]) -> Any:
    return pc.is_in(batch.column(name).cast(pa.string()), value_set=pa.array(sorted(texts), pa.string()))


def _csv(path: Path, new: BinaryIO, wanted: Wanted) -> int:
    names: list[str] | None = None
    count = 0
    for lines in _csv_records(path):
        [row] = csv.reader([lines.decode()])
        if names is None:
            names = row
            if "request_id" not in names:
                raise LeftToHand(_SILENT)
        elif _goes(dict(zip(names, row, strict=False)), wanted):
            count += 1
            continue
        new.write(lines)
    return count


def _csv_records(path: Path) -> Iterator[bytes]:
    """The bytes of each record: lines, until all quotes are closed."""
    pending = b""
    with path.open("rb") as file:
        for line in file:
            pending += line
            if pending.count(b'"') % 2 == 0:
                yield pending
                pending = b""
    if pending:
        raise csv.Error("a quote is not closed")


def _jsonl(path: Path, new: BinaryIO, wanted: Wanted) -> int:
    count = 0
    with path.open("rb") as file:
        for line in file:
            row = msgspec.json.decode(line, type=dict[str, Any])
            if "request_id" not in row:
                raise LeftToHand(_SILENT)
            if _goes(row, wanted):
                count += 1
            else:
                new.write(line)
    return count


def _goes(row: dict[str, Any], wanted: Wanted) -> bool:
    return row["request_id"] in wanted.request_ids or row.get("key") in wanted.keys


_REWRITES: Final[dict[str, Rewrite]] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
