"""What is sealed: the index beside the Parquet files, which alone says what counts. Needs no pyarrow to be read.

<home>/audit/sealed/<model>/<day>/<segment>.parquet     records of no model: `_none` for <model>
<home>/audit/sealed/_index/<segment>.json               one for each segment, written when all its files are there
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.segment import SUFFIX, Commit, Header
from penstock.durable import make_directory, write_whole
from penstock.errors import SegmentError

SEALED: Final = "sealed"
INDEX: Final = "_index"
PARTIAL: Final = ".partial"
PARQUET: Final = ".parquet"
REWRITTEN: Final = "~"
"""Before the number of a rewriting, in the name of a file that was written anew (`erase_sealed.py`)."""

FORMAT: Final = 1
_NO_MODEL: Final = "_none"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """When the records of a file were removed, and by which rule."""

    at: datetime
    why: str


class SealedFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One Parquet file: `path` below the audit directory, SHA-256 of its bytes, and what its records range over."""

    path: str
    model: str | None
    day: str
    records: int
    size_bytes: int
    sha256: str
    first_at: datetime
    last_at: datetime
    first_id: str
    last_id: str
    gone: Gone | None = None


class SealedSegment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One segment that is sealed: what `verify` said of it, and the files that have its records.

    `segment` is its path below the audit directory, `sha256` of its `size_bytes` of whole writes; `next` is the number
    that comes next; `head` the chain
    head that the next segment of its run follows. `torn_bytes` were cut off its end.
    `words` are the commit lines of writes without records, or after missing ones: the others follow from the records.
    """

    format: int
    segment: str
    header: Header
    records: int
    first: int | None
    last: int | None
    next: int
    dropped: int
    lost: int = 0
    head: str
    size_bytes: int
    sha256: str
    torn_bytes: int = 0
    sealed_at: datetime
    words: tuple[Commit, ...] = ()
    files: tuple[SealedFile, ...] = ()

    @property
    def name(self) -> str:
        """What its files and its entry in the index are called."""
        return name_of(self.segment)


def name_of(segment: str) -> str:
    """The name of a segment's files: its own, and its worker's."""
    path = Path(segment)
    return f"{path.stem}-{path.parent.name}"


def file_path(model: str | None, day: str, name: str) -> str:
    """Where the records of a model and a day of a segment go, below the audit directory."""
    return f"{SEALED}/{_NO_MODEL if model is None else model}/{day}/{name}{PARQUET}"


def is_model(name: str | None) -> bool:
    """Whether `name` is of the form of a model's, and so of a folder's."""
    return name is not None and _NAME.fullmatch(name) is not None


def entry_path(directory: Path, name: str) -> Path:
    """Where the index says of the segment `name`; `directory` is the audit directory."""
    return directory / SEALED / INDEX / f"{name}.json"


def read_index(directory: Path) -> list[SealedSegment]:
    """All segments that are sealed, by name. Raises SegmentError for an entry that cannot be read."""
    return [read_entry(path) for path in sorted((directory / SEALED / INDEX).glob("*.json"))]


def read_entry(path: Path) -> SealedSegment:
    """One entry of the index. Raises SegmentError."""
    try:
        entry = _decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SegmentError(f"Expected an entry of the index of sealed segments at {path}, but: {error}") from error
    if entry.format != FORMAT:
        raise SegmentError(f"{path}: an entry of format {entry.format}; this Penstock reads format {FORMAT}")
    return entry


_decoder = msgspec.json.Decoder(SealedSegment)


def write_entry(directory: Path, entry: SealedSegment) -> None:
    """Say what is sealed of a segment, at once and for good. Raises OSError; then the index is as it was."""
    path = entry_path(directory, entry.name)
    make_directory(path.parent)
    data = msgspec.json.format(msgspec.json.encode(entry)) + b"\n"
    write_whole(path, data, draft=path.with_suffix(PARTIAL), mode=0o600)


def segments(directory: Path) -> list[Path]:
    """All segments there are, sealed or not, in the order of their beginning within each worker."""
    return sorted(directory.glob(f"worker-*/*{SUFFIX}"))


def relative(directory: Path, path: Path) -> str:
    """`path` below the audit directory, as the index names it."""
    return path.relative_to(directory).as_posix()


class Snapshot(msgspec.Struct, frozen=True):
    """All records as of one moment: each is in one of the `files` or in one of the `live` segments, and in one only."""

    directory: Path
    sealed: list[SealedSegment]
    live: list[Path]

    def files(self) -> Iterator[SealedFile]:
        """The Parquet files that are there to be read."""
        return (file for segment in self.sealed for file in segment.files if file.gone is None)


def snapshot(directory: Path) -> Snapshot:
    """What there is to read below the audit directory. Raises SegmentError."""
    found = segments(directory)  # before the index: what is sealed meanwhile is in both, and taken as sealed
    sealed = read_index(directory)
    known = {entry.segment for entry in sealed}
    return Snapshot(directory, sealed, [path for path in found if relative(directory, path) not in known])


def committed_writes(path: Path) -> Iterator[tuple[list[bytes], bytes]]:
    """The lines of the records of each whole write of a segment, and its commit line; unproven (`verify` does that).
    Raises SegmentError; FileNotFoundError if it was sealed and removed meanwhile.
    """
    pending: list[bytes] = []
    try:
        with path.open("rb") as file:
            for line in file:
                if line.startswith(b'{"commit":'):
                    yield pending, line
                    pending = []
                elif not line.startswith(b'{"header":'):
                    pending.append(line)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SegmentError(f"Expected a readable audit segment at {path}, but: {error.strerror}") from error
