"""What a run of a worker wrote after a certain place in its log: for counting what it had no time to tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from penstock.audit.record import Record, read_record
from penstock.audit.segment import SUFFIX, parse_commit, parse_header
from penstock.errors import SegmentError


class Place(msgspec.Struct, frozen=True):
    """How far a run had told: a segment's path, how many bytes of whole writes in it, and the number of the last
    record whose call was answered. Which of the two is further depends on the durability class.
    """

    segment: str
    at_bytes: int
    answered: int = 0


def records_after(place: Place) -> Iterator[Record]:
    """The records that the run of `place` committed after it, in this segment and in its later ones; a torn tail is
    left out. The chain is not looked at (`verify` does that). Raises SegmentError for a file that cannot be read.
    """
    path = Path(place.segment)
    run = _run_of(path)
    yield from _committed(path, place.at_bytes)
    for later in sorted(path.parent.glob(f"*{SUFFIX}")):
        if later.name > path.name and _run_of(later) == run:
            yield from _committed(later, 0)


def _run_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            header = parse_header(file.readline())
    except OSError as error:
        raise SegmentError(f"Expected a readable audit segment at {path}, but: {error.strerror}") from error
    return None if header is None else header.run


def _committed(path: Path, at_bytes: int) -> Iterator[Record]:
    pending: list[bytes] = []
    try:
        with path.open("rb") as file:
            file.seek(at_bytes)
            for line in file:
                if parse_commit(line) is not None:
                    yield from map(read_record, pending)
                    pending = []
                elif parse_header(line) is None:
                    pending.append(line)
    except OSError as error:
        raise SegmentError(f"Expected a readable audit segment at {path}, but: {error.strerror}") from error
