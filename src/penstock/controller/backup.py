"""A backup of a home that is in use: what `restore.py` makes a home of. It appears under its name when it is whole.

`backup.json` lists what is in it, with digests: `state.db` (the events, as a SQLite file wherever the state is kept),
`bundles/SEAL` (of each version that is there), `audit/` (of a segment that is being written, the whole writes),
`audit.key` (without which neither keys could be looked up nor erasures be proven), `routing.json`, `watched.json`.
Settings and their secrets are not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.chain import verify
from penstock.audit.erase import ERASURES_FILE
from penstock.audit.pseudonyms import KEY_FILE
from penstock.audit.sealed import PARQUET, SEALED
from penstock.audit.segment import SUFFIX
from penstock.control.database import STATE_FILE
from penstock.control.garbage import seals_of
from penstock.control.repository import COPIES, Repository
from penstock.control.sql_store import SqlStore
from penstock.control.state import State, folded
from penstock.control.store import EventStore
from penstock.errors import BundleRefused, ControlError
from penstock.routing import ROUTING_FILE

FORMAT: Final = 1
LIST_FILE: Final = "backup.json"
AUDIT: Final = "audit"
WATCHED_FILE: Final = "watched.json"
_ATTEMPTS: Final = 5


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """`backup.json`: the state's `revision`, and the SHA-256 of every other file, by its path."""

    format: int
    at: datetime
    penstock: str
    revision: int
    files: dict[str, str]


def back_up(directory: Path, home: Path, store: EventStore, repository: Repository) -> BackedUp:
    """Copy `home` to `directory`, which must not be there yet, while servers and commands go on.

    Raises ControlError, StateUnavailable, RepositoryUnavailable, and BundleRefused for a version whose bundle the
    repository has lost. Then there is no such directory.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ControlError(f"{directory}: a backup is made in a new directory, and there is something at this path")
    try:
        directory.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=directory.absolute().parent) as scratch:
            draft = Path(scratch) / "backup"
            draft.mkdir(mode=0o700)
            for name in (ROUTING_FILE, WATCHED_FILE):  # before the state, which then knows every version that they name
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(home / name, draft / name)
            with contextlib.suppress(FileNotFoundError):
                _copy(home / KEY_FILE, draft / KEY_FILE)
            state = _state_and_bundles(draft, store, repository)
            _segments(home / AUDIT, draft / AUDIT)
            listed = _listed(draft, state.revision)
            (draft / LIST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(listed)) + b"\n")
            _fsync(draft)
            draft.rename(directory)
    except OSError as error:
        raise ControlError(f"no backup at {directory}: {error.strerror or error}") from error
    return listed


def read_backup(directory: Path) -> BackedUp:
    """The list of the backup at `directory`, every file of it verified. Raises ControlError naming what differs."""
    try:
        listed = msgspec.json.decode((directory / LIST_FILE).read_bytes(), type=BackedUp)
    except (OSError, msgspec.DecodeError) as error:
        raise ControlError(f"{directory}: expected a backup, whose {LIST_FILE} can be read: {error}") from error
    if listed.format != FORMAT:
        raise ControlError(f"{directory}: a backup of format {listed.format}; this Penstock reads format {FORMAT}")
    there = {path.relative_to(directory).as_posix() for path in _files(directory)} - {LIST_FILE}
    if there != set(listed.files):
        name = min(there ^ set(listed.files))
        raise ControlError(f"{directory}: {name} is {'not listed' if name in there else 'missing'}: it was changed")
    for name, digest in listed.files.items():
        if _digest(directory / name) != digest:
            raise ControlError(f"{directory}: {name} is not what was backed up: it was changed")
    return listed


@contextlib.contextmanager
def events_of(directory: Path, scratch: Path) -> Iterator[SqlStore]:
    """The events of a backup, from a copy in `scratch`: reading a database may write beside it."""
    shutil.copyfile(directory / STATE_FILE, scratch / STATE_FILE)
    with contextlib.closing(SqlStore(None, home=scratch)) as store:
        yield store


def _state_and_bundles(draft: Path, store: EventStore, repository: Repository) -> State:
    """The events as of one moment, and the bundles of the versions that were there then.

    A garbage collection between the two may take a bundle away; its version is gone from the state then, too.
    """
    for attempt in range(_ATTEMPTS):
        (draft / STATE_FILE).unlink(missing_ok=True)
        store.back_up(draft / STATE_FILE)
        with tempfile.TemporaryDirectory(dir=draft) as scratch, events_of(draft, Path(scratch)) as copied:
            state = folded(copied.since(0))
        shutil.rmtree(draft / COPIES, ignore_errors=True)
        (draft / COPIES).mkdir()
        try:
            for seal in sorted(seals_of(state, without={})):
                repository.place(seal, draft / COPIES / seal.removeprefix("sha256:"))
        except BundleRefused:
            if attempt == _ATTEMPTS - 1 or not store.since(state.revision):
                raise
        else:
            return state
    raise AssertionError  # the last attempt returns or raises


def _segments(source: Path, target: Path) -> None:
    """Copy what is sealed, and all segments, each cut after its last whole write; one that is broken is evidence."""
    for path in sorted((*source.glob(f"{SEALED}/**/*"), *source.glob(ERASURES_FILE))):
        if path.suffix in (PARQUET, ".json", ".jsonl"):  # what a crash of sealing left is left out
            _copy(path, target / path.relative_to(source))
    for path in sorted(source.glob(f"worker-*/*{SUFFIX}")):
        copy = target / path.parent.name / path.name
        _copy(path, copy)
        report = verify(copy)
        if report.broken is None and report.torn_bytes:
            os.truncate(copy, report.good_bytes)


def _copy(path: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(path, copy)
    copy.chmod(0o600)


def _listed(draft: Path, revision: int) -> BackedUp:
    return BackedUp(
        format=FORMAT,
        at=datetime.now(UTC),
        penstock=metadata.version("penstock"),
        revision=revision,
        files={path.relative_to(draft).as_posix(): _digest(path) for path in _files(draft)},
    )


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _fsync(draft: Path) -> None:
    """Make all of it survive a power loss, before it gets its name."""
    for path in (draft, *draft.rglob("*")):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
