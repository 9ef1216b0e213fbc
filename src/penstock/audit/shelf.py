"""Which segments there are, live and sealed, by run and in order; an index that has not changed is not read again."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.sealed import INDEX, SEALED, SealedSegment, read_entry, relative, segments
from penstock.audit.segment import Header, parse_header
from penstock.errors import SegmentError

ALL: Final = range(sys.maxsize)
"""Of all workers."""


class Part(msgspec.Struct, frozen=True):
    """One segment of a run. `is_live`: the file that was written is there; `entry`: it is sealed, too or only."""

    segment: str
    header: Header
    is_live: bool
    entry: SealedSegment | None

    @property
    def last(self) -> float:
        """The number up to which it is known to have records; infinity where more may come."""
        if self.is_live or self.entry is None:
            return math.inf
        return self.entry.header.first - 1 if self.entry.last is None else self.entry.last


class Shelf:
    """Used by one thread at a time. A look is believed for `fresh_s`; `workers` are those whose runs are looked at."""

    def __init__(self, audit: Path, *, fresh_s: float, workers: range = ALL) -> None:
        self._audit = audit
        self._workers = workers
        self._fresh_s = fresh_s
        self._looked_s = -math.inf
        self._runs: dict[str, list[Part]] = {}
        self._headers: dict[str, Header] = {}
        self._index_ns = -1
        self._entries: dict[str, tuple[int, SealedSegment]] = {}

    def look(self, *, is_anew: bool = False) -> dict[str, list[Part]]:
        """The segments of each run that still has records. Raises SegmentError."""
        now_s = time.monotonic()
        if is_anew or now_s - self._looked_s >= self._fresh_s:
            live = self._live()  # before the index: what is sealed meanwhile is in both
            runs = _by_run(live, self._sealed())
            self._runs = {run: parts for run, parts in runs.items() if parts[0].header.worker in self._workers}
            self._looked_s = now_s
        return self._runs

    def _live(self) -> dict[str, Header]:
        found = {}
        for path in segments(self._audit):
            name = relative(self._audit, path)
            header = self._headers.get(name) or _header_of(path)
            if header is not None:  # a file without one was born a moment ago, or was cut at birth
                found[name] = header
        self._headers = found
        return found

    def _sealed(self) -> dict[str, SealedSegment]:
        index = self._audit / SEALED / INDEX
        try:
            changed_ns = index.stat().st_mtime_ns
        except FileNotFoundError:
            return {}
        # A change within the same tick of the clock would go unseen: a directory is believed once it has rested.
        if changed_ns != self._index_ns:
            entries = {}
            for path in index.glob("*.json"):
                stamp_ns = path.stat().st_mtime_ns
                known = self._entries.get(path.name)
                entries[path.name] = known if known and known[0] == stamp_ns else (stamp_ns, read_entry(path))
            self._entries = entries
            self._index_ns = changed_ns if time.time_ns() - changed_ns > 1_000_000_000 else -1
        return {entry.segment: entry for _, entry in self._entries.values()}


def _by_run(live: dict[str, Header], sealed: dict[str, SealedSegment]) -> dict[str, list[Part]]:
    runs: dict[str, list[Part]] = {}
    for name, header in live.items():
        runs.setdefault(header.run, []).append(Part(name, header, True, sealed.get(name)))
    for name, entry in sealed.items():
        if name not in live and any(file.gone is None for file in entry.files):
            runs.setdefault(entry.header.run, []).append(Part(name, entry.header, False, entry))
    return {run: sorted(parts, key=lambda part: part.header.index) for run, parts in runs.items()}


def _header_of(path: Path) -> Header | None:
    try:
        with path.open("rb") as file:
            return parse_header(file.readline())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SegmentError(f"Expected a readable audit segment at {path}, but: {error.strerror}") from error
