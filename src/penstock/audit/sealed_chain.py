"""The chain of a sealed segment, computed anew from its Parquet files: their records are those that were written."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.audit.columns import ENVELOPE_SCHEMA, written
from penstock.audit.commitment import erased, is_erased
from penstock.audit.sealed import SealedSegment
from penstock.audit.segment import Commit, commit_line, header_line, sha256_hex
from penstock.errors import SegmentError

_BATCH_ROWS = 4096
Numbered = tuple[int, bytes, bool]


class SealedChain(msgspec.Struct, frozen=True):
    """Why the records of a sealed segment do not end in its chain head, if so; and which of them lack their payload."""

    broken: str | None
    erased: frozenset[int] = frozenset()


def chain_of(directory: Path, entry: SealedSegment) -> SealedChain:
    """The chain of a sealed segment all files of which are there.

    Erased payloads change nothing in it: it is over commitments. Holds a batch of each file. Raises OSError.
    """
    gone: set[int] = set()
    try:
        records = heapq.merge(*(_records(directory / file.path) for file in entry.files))
        broken = _walked(entry, _writes(_noting(records, gone)))
    except (pa.ArrowException, SegmentError, ValueError) as error:
        broken = f"expected sealed records, got something else: {error}"
    return SealedChain(broken, frozenset(gone))


def _noting(records: Iterator[Numbered], gone: set[int]) -> Iterator[Numbered]:
    for record in records:
        if is_erased(record[1]):
            gone.add(record[0])
        yield record


def _walked(entry: SealedSegment, writes: Iterator[tuple[int, list[bytes]]]) -> str | None:
    head = sha256_hex(header_line(entry.header))
    words = {word.prev: word for word in entry.words}
    while True:
        word = words.pop(head, None)
        if word is not None and word.last < word.first:
            head = sha256_hex(commit_line(word))
            continue
        first, lines = next(writes, (0, []))
        if not lines:
            break
        covered = [erased(line) for line in lines]
        if None in covered:
            return f"record {first + covered.index(None)}: expected the payload that its commitment names, got another"
        digest = sha256_hex(b"".join(part for part in covered if part is not None))
        commit = Commit(first=first, last=first + len(lines) - 1, sha256=digest, prev=head)
        if word is not None and (word.first, word.last, word.sha256) != (commit.first, commit.last, commit.sha256):
            return f"expected the records {word.first} to {word.last} as they were written, got others from {first} on"
        head = sha256_hex(commit_line(commit if word is None else word))
    return None if head == entry.head else f"expected the chain to end at {entry.head}, it ends at {head}"


def _writes(records: Iterator[Numbered]) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of each write, and the number of its first record."""
    pending: list[bytes] = []
    first = 0
    for seq, line, ends in records:
        first = first if pending else seq
        pending.append(line)
        if ends:
            yield first, pending
            pending = []
    if pending:
        yield first, pending


def _records(path: Path) -> Iterator[Numbered]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=ENVELOPE_SCHEMA.names):
            lines = list(written(pa.Table.from_batches([batch])))
            for seq, (line, ends) in zip(batch.column("seq").to_pylist(), lines, strict=True):
                yield seq, line, ends
