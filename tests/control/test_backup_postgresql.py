"""A backup goes from one kind of database to the other."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from penstock.control.changes import Who
from penstock.control.control import By, Control
from penstock.control.repository import Repository
from penstock.control.sql_store import SqlStore
from penstock.control.state import State
from penstock.controller.backup import back_up
from penstock.controller.restore import restore
from penstock.errors import ControlError
from penstock.settings import Settings, StateSettings
from postgres import Cluster
from variants import variant


class Open:
    """A gate that lets everything through."""

    def reasons(self, state: State, name: str, alias: str, number: int) -> tuple[list[str], list[str]]:
        return [], []


def test_a_backup_is_restored_into_the_other_database(
    cluster: Cluster, bundles: dict[str, Path], tmp_path: Path
) -> None:
    """From SQLite to PostgreSQL and back: the same events; a database that has some already is refused."""
    urls = [None, cluster.new_url(), None]
    homes = [tmp_path / f"home-{number}" for number in range(3)]
    stores = [SqlStore(url, home=home) for url, home in zip(urls, homes, strict=True)]
    control = Control(stores[0], Repository(None, home=homes[0]), Open())
    for without in range(3):
        control.publish(variant(bundles["iris"], tmp_path, without), By(who=Who("ann")))
    for number in (0, 1):
        with contextlib.closing(stores[number]) as store:
            back_up(tmp_path / f"backup-{number}", homes[number], store, Repository(None, home=homes[number]))
        settings = Settings(home=str(homes[number + 1]), state=StateSettings(url=urls[number + 1]))
        restore(tmp_path / f"backup-{number}", settings)
    with contextlib.closing(stores[2]) as store:
        assert control.events() == store.since(0)
    taken = Settings(home=str(tmp_path / "other"), state=StateSettings(url=urls[1]))
    with pytest.raises(ControlError, match="restore into an empty one"):
        restore(tmp_path / "backup-0", taken)
