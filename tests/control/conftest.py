"""States to test on: SQLite's and PostgreSQL's, each empty."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_contract import OpensStore

from penstock.control.sql_store import SqlStore
from postgres import Cluster, private_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of our own."""
    with private_cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def new_state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], OpensStore]]:
    """Makes an empty state, and gives what opens another store on it; all are closed at the end."""
    opened: list[SqlStore] = []
    homes = (tmp_path / f"home{number}" for number in itertools.count())

    def new() -> OpensStore:
        home = next(homes)
        url = request.getfixturevalue("cluster").new_url() if request.param == "postgresql" else None

        def opens() -> SqlStore:
            opened.append(SqlStore(url, home=home))
            return opened[-1]

        return opens

    yield new
    for store in opened:
        store.close()


@pytest.fixture
def opens(new_state: Callable[[], OpensStore]) -> OpensStore:
    """Opens a store on an empty state; again, and it is another store on the same."""
    return new_state()
