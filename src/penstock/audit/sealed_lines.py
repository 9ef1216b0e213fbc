"""The lines of a sealed segment, in the order in which they were written, out of its Parquet files."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from penstock.audit.columns import lines_of
from penstock.audit.sealed import SealedSegment
from penstock.errors import SegmentError

_BATCH_ROWS = 1024
_START = len(b'{"seq":')


def sealed_lines(audit: Path, entry: SealedSegment, after: int) -> Iterator[tuple[int, bytes]]:
    """Number and line of each record of a sealed segment with a number above `after`; those of files that are gone are
    left out. Holds some rows of each file. Raises SegmentError for a file that cannot be read.
    """
    files = [audit / file.path for file in entry.files if file.gone is None]
    for seq, line in heapq.merge(*map(_numbered, files)):
        if seq > after:
            yield seq, line


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                for line in lines_of(pa.Table.from_batches([batch])):
                    yield int(line[_START : line.index(b",")]), line
    except FileNotFoundError:  # retention was here since the index was read
        return
    except (OSError, pa.ArrowException) as error:
        raise SegmentError(f"Expected a readable sealed file at {path}, but: {error}") from error
