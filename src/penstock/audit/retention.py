"""How long sealed records are kept: by model, by age and by size, whichever comes first. Deciding is pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import msgspec

from penstock.audit.sealed import Gone, SealedFile, read_index, write_entry
from penstock.durable import sync_directory


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """`days` after its last record a file goes, and the oldest ones above `max_bytes`."""

    days: float = 30.0
    max_bytes: int = 10_000_000_000


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """The rule: `bounds` for each model, but for those of `models`; nothing goes of the models on `hold`."""

    bounds: Bounds = Bounds()
    models: dict[str, Bounds] = {}
    hold: frozenset[str] = frozenset()


class Due(msgspec.Struct, frozen=True):
    """A file that goes, and why."""

    file: SealedFile
    why: str


def due(files: Iterable[SealedFile], rule: Retention, now: datetime) -> list[Due]:
    """Which files are to go, the oldest first within each model. A file goes as a whole, once its last record may."""
    there = sorted((file for file in files if file.gone is None), key=lambda file: (file.model or "", file.last_at))
    found: list[Due] = []
    for model, group in groupby(there, key=lambda file: file.model):
        if model is not None and model in rule.hold:
            continue
        kept, bounds = list(group), rule.models.get(model or "", rule.bounds)
        above_bytes = sum(file.size_bytes for file in kept) - bounds.max_bytes
        for file in kept:
            if file.last_at < now - timedelta(days=bounds.days):
                found.append(Due(file, f"older than {bounds.days:g} days"))
            elif above_bytes > 0:
                found.append(Due(file, f"the model had more than {bounds.max_bytes:,} bytes"))
            above_bytes -= file.size_bytes
    return found


def retain(
    directory: Path, rule: Retention, now: datetime | None = None, step: Callable[[str], None] = lambda what: None
) -> list[Due]:
    """Remove what is due below `directory` (`<home>/audit`), and give it. The index says so first, and for good; a
    crash leaves files that `Sealer.tidy` removes. Raises SegmentError and OSError.
    """
    now = datetime.now(UTC) if now is None else now
    index = read_index(directory)
    going = {each.file.path: each for each in due((file for entry in index for file in entry.files), rule, now)}
    for entry in index:
        mine = [file for file in entry.files if file.path in going]
        if not mine:
            continue
        files = tuple(
            msgspec.structs.replace(file, gone=Gone(at=now, why=going[file.path].why)) if file in mine else file
            for file in entry.files
        )
        step(f"index {entry.name}")
        write_entry(directory, msgspec.structs.replace(entry, files=files))
        for file in mine:
            step(f"remove {file.path}")
            path = directory / file.path
            path.unlink(missing_ok=True)
            sync_directory(path.parent)
    return list(going.values())
