"""The store in memory keeps to the contract of all stores, so that tests on it speak for the others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from store_contract import CHECKS, Opens, event

from penstock.control.sql_store import SqlStore
from penstock.testing import MemoryStore


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract(check: Callable[[Opens], None]) -> None:
    """Each check that a store on a database passes holds in memory."""
    store = MemoryStore()
    check(lambda: store)


def test_its_backup_is_a_state(tmp_path: Path) -> None:
    """What it backs up is read by a store on SQLite."""
    store = MemoryStore()
    store.append([event(1)])
    store.back_up(tmp_path / "state.db")
    with closing(SqlStore(None, home=tmp_path)) as copy:
        assert [event(1)] == copy.since(0)
