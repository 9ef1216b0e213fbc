"""A home made of a backup: see `backup.py`. Nothing is overwritten; what fails leaves the home as empty as it was."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.pseudonyms import KEY_FILE
from penstock.control.database import STATE_FILE
from penstock.control.repository import COPIES, Repository
from penstock.control.sql_store import SqlStore
from penstock.control.store import EventStore
from penstock.controller.backup import AUDIT, WATCHED_FILE, BackedUp, events_of, read_backup
from penstock.controller.lock import LOCK_FILE, locked
from penstock.errors import ControlError
from penstock.routing import ROUTING_FILE, read_wanted, write_wanted
from penstock.settings import Settings

_THERE_ANYWAY: Final = frozenset({LOCK_FILE, "lost+found"})
_BATCH: Final = 1000


def restore(directory: Path, settings: Settings) -> BackedUp:
    """Make the home of `settings`, which must be empty, of the backup at `directory`: verified first, to the last byte.

    Bundles go to the repository and events to the database that the settings name; a database of events refuses.
    Raises ControlError naming what is wrong, StateUnavailable, RepositoryUnavailable and BundleRefused.
    """
    home = Path(settings.home)
    listed = read_backup(directory)
    with locked(home) as is_ours:
        if not is_ours:
            raise ControlError(f"a server or another command holds the home {home}: stop it, and restore into another")
        there = sorted(entry.name for entry in home.iterdir() if entry.name not in _THERE_ANYWAY)
        if there:
            raise ControlError(f"{home}: expected an empty home to restore into, found {', '.join(there[:5])}")
        with _all_or_nothing(home), tempfile.TemporaryDirectory(prefix=".restore-", dir=home) as scratch:
            _restore(directory, settings, Path(scratch))
    return listed


def _restore(directory: Path, settings: Settings, scratch: Path) -> None:
    home = Path(settings.home)
    repository = Repository(settings.repository.url, home=home)
    for bundle in sorted((directory / COPIES).iterdir()):
        repository.add(bundle)
    if (directory / AUDIT).is_dir():
        shutil.copytree(directory / AUDIT, home / AUDIT)
    for name in (KEY_FILE, WATCHED_FILE):
        if (directory / name).is_file():
            shutil.copy(directory / name, home / name)
    if settings.state.url is None:
        shutil.copyfile(directory / STATE_FILE, home / STATE_FILE)
    else:
        with events_of(directory, scratch) as events:
            _append_all(events, settings)
    if (directory / ROUTING_FILE).is_file():
        _route(directory, home, repository)


def _append_all(events: EventStore, settings: Settings) -> None:
    with contextlib.closing(SqlStore(settings.state.url, home=Path(settings.home))) as store:
        if store.since(0):
            raise ControlError("the database that `state.url` names has events already: restore into an empty one")
        found = events.since(0)
        for start in range(0, len(found), _BATCH):
            store.append(found[start : start + _BATCH])


def _route(directory: Path, home: Path, repository: Repository) -> None:
    """What was served, from where its bundles lie now: so that the home serves before any controller is up.

    Where a version of it was removed while the backup was made, it is left to the controller.
    """
    wanted = read_wanted(directory)
    named = {Path(path).name for versions in wanted.paths.values() for path in versions.values()}
    if not named <= {bundle.name for bundle in (directory / COPIES).iterdir()}:
        return
    paths = {
        name: {number: str(repository.local(f"sha256:{Path(path).name}")) for number, path in versions.items()}
        for name, versions in wanted.paths.items()
    }
    write_wanted(home, msgspec.structs.replace(wanted, paths=paths))


@contextlib.contextmanager
def _all_or_nothing(home: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        for entry in [entry for entry in home.iterdir() if entry.name not in _THERE_ANYWAY]:
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ControlError(f"nothing was restored into {home}: {error.strerror or error}") from error
        raise
