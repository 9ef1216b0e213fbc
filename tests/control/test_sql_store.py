"""The store of events on SQLite and PostgreSQL: the contract, several processes, faults, versions, copies."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError
from store_contract import CHANGES, CHECKS, Opens, OpensStore
from store_contract import event as made

from penstock.control import engine
from penstock.control.changes import Event, Who
from penstock.control.database import STATE_FILE, Database
from penstock.control.sql_store import SqlStore
from penstock.control.tables import METADATA, moment
from penstock.errors import MissingExtra, SettingsError, StateUnavailable
from postgres import Cluster

EVENTS = [made(number, change, "why") for number, change in enumerate(CHANGES, 1)]
MANY = 400
REST = "who, is_verified, kind, model, reason, change"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract(opens: OpensStore, check: Callable[[Opens], None]) -> None:
    """The store keeps to what every store keeps to."""
    check(opens)


@pytest.mark.parametrize("new_state", ["sqlite", "postgresql"], indirect=True)
def test_any_text_and_time_comes_back(new_state: Callable[[], OpensStore]) -> None:
    """Names, reasons and moments come back as they were, whatever is in them."""
    store = new_state()()
    state: list[Event] = []
    plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)

    @settings(max_examples=40)
    @given(plain, plain | st.none(), st.integers(1, 10**15), st.sampled_from(CHANGES), st.booleans())
    def comes_back(name: str, reason: str | None, later_us: int, change: Any, is_verified: bool) -> None:
        last_us = (state[-1].at - moment(0)).total_seconds() if state else 0
        at = moment(int(last_us * 1_000_000) + later_us) if not state else state[-1].at + (moment(later_us) - moment(0))
        one = Event(
            revision=len(state) + 1, at=at, who=Who(name, is_verified), model=name, change=change, reason=reason
        )
        store.append([one])
        state.append(one)
        assert state == store.since(0)

    comes_back()


WRITER = """
import sys
from pathlib import Path
from penstock.control.changes import Who
from penstock.control.sql_store import SqlStore
from store_contract import write
sys.stdin.readline()
store = SqlStore(sys.argv[1] or None, home=Path(sys.argv[2]))
write(store, Who(sys.argv[3]), 20)
store.close()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_at_once(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """Processes that begin at once on a state that is not there yet make it once, and lose no event."""
    url = request.getfixturevalue("cluster").new_url() if kind == "postgresql" else ""
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", WRITER, url, str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )
        for number in range(2)
    ]
    for writer in writers:
        writer.communicate(b"go\n", timeout=60)
    assert [0, 0] == [writer.returncode for writer in writers]
    with contextlib.closing(SqlStore(url or None, home=tmp_path)) as store:
        found = store.since(0)
    assert list(range(1, 41)) == [one.revision for one in found]
    assert {"0": 20, "1": 20} == {name: [one.who.name for one in found].count(name) for name in "01"}


KILLED = """
import itertools, sys
from pathlib import Path
from penstock.control.sql_store import SqlStore
from store_contract import event
store = SqlStore(sys.argv[1] or None, home=Path(sys.argv[2]))
for first in itertools.count(1, 3):
    store.append([event(first), event(first + 1), event(first + 2)])
    print(first + 2, flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_writer_that_is_killed(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    """After kill -9 of a writer all that it had been told is written is there, and what it wrote together is whole."""
    url = request.getfixturevalue("cluster").new_url() if kind == "postgresql" else ""
    paths = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    line = [sys.executable, "-c", KILLED, url, str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
        told += [int(late) for late in writer.stdout if late.endswith(b"\n")]
    with contextlib.closing(SqlStore(url or None, home=tmp_path)) as store:
        found = store.since(0)
        assert found[: told[-1]] == [made(number) for number in range(1, told[-1] + 1)]
        assert len(found) in {told[-1], told[-1] + 3}
        store.append([made(len(found) + 1)])


@contextlib.contextmanager
def raw(store: SqlStore) -> Iterator[Callable[..., Any]]:
    """Runs statements on the store's database beside it, each in a transaction of its own."""
    path = store._database.path
    where = f"sqlite:///{path}" if path else store._database._reader.url
    beside = create_engine(where)
    try:

        def run(statement: str) -> list[Any]:
            with beside.begin() as connection:
                result = connection.execute(text(statement))
                return list(result) if result.returns_rows else []

        yield run
    finally:
        beside.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET who = 'nobody'",
        "UPDATE events SET revision = 9 WHERE revision = 2",
        "DELETE FROM events WHERE revision = 2",
        f"INSERT INTO events SELECT 5, at + 100, {REST} FROM events WHERE revision = 2",
        f"INSERT INTO events SELECT 3, at, {REST} FROM events WHERE revision = 2",
    ],
)
def test_events_stay(opens: OpensStore, statement: str) -> None:
    """The database itself refuses to alter or remove an event, to leave a gap, and to go back in time."""
    store = opens()
    store.append(EVENTS[:2])
    with raw(store) as run, pytest.raises(DBAPIError, match="event"):
        run(statement)
    assert EVENTS[:2] == store.since(0)


def test_events_are_not_replaced(tmp_path: Path) -> None:
    """SQLite's way to write over a row does not get around it."""
    with contextlib.closing(SqlStore(None, home=tmp_path)) as store:
        store.append(EVENTS[:2])
        with raw(store) as run, pytest.raises(DBAPIError, match="follows the last one"):
            run("REPLACE INTO events SELECT revision, at, 'x', is_verified, kind, model, reason, change FROM events")
        assert EVENTS[:2] == store.since(0)


def test_events_are_not_truncated(cluster: Cluster) -> None:
    """PostgreSQL's way to empty a table does not get around it."""
    with contextlib.closing(SqlStore(cluster.new_url(), home=Path())) as store:
        store.append(EVENTS[:2])
        with raw(store) as run, pytest.raises(DBAPIError, match="never removed"):
            run("TRUNCATE events")
        assert EVENTS[:2] == store.since(0)


def test_the_migrations_make_the_tables(opens: OpensStore) -> None:
    """What the migrations leave is what `tables.py` says."""
    store = opens()
    store.since(0)
    with store._database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "penstock_version"})
        assert [] == compare_metadata(context, METADATA)


def test_a_newer_state(opens: OpensStore) -> None:
    """A state that a newer Penstock has upgraded is refused, at the start and beneath one that runs."""
    running, starting = opens(), opens()
    running.append(EVENTS[:1])
    with raw(running) as run:
        run("UPDATE penstock_version SET version_num = '7000'")
    with pytest.raises(StateUnavailable, match=r"of a newer Penstock \(step '7000'"):
        starting.since(0)
    with pytest.raises(StateUnavailable, match="upgraded by a newer Penstock"):
        running.append(EVENTS[1:2])
    with raw(running) as run:
        run("UPDATE penstock_version SET version_num = '0001'")
    running.append(EVENTS[1:2])
    assert EVENTS[:2] == starting.since(0)


def test_an_event_of_a_newer_penstock(opens: OpensStore) -> None:
    """An event of a kind that is not known is named, and nothing after it is guessed."""
    store = opens()
    store.append(EVENTS[:1])
    with raw(store) as run:
        run(
            "INSERT INTO events SELECT 2, at + 1, who, is_verified, 'frozen', model, reason, '{\"type\":\"frozen\"}' "
            "FROM events"
        )
    with pytest.raises(StateUnavailable, match="event 2 of the state, 'frozen', is of a newer Penstock"):
        store.since(0)


def test_a_state_that_went_back(tmp_path: Path) -> None:
    """A writer beneath which an older copy was put in place is told so, and adds nothing."""
    with contextlib.closing(SqlStore(None, home=tmp_path)) as store:
        store.append(EVENTS[:2])
        store.back_up(tmp_path / "copy.db")
        store.append(EVENTS[2:4])
        for part in tmp_path.glob(f"{STATE_FILE}*"):
            part.unlink()
        (tmp_path / "copy.db").replace(tmp_path / STATE_FILE)
        with pytest.raises(StateUnavailable, match="is at revision 2, .* if it was restored"):
            store.append(EVENTS[4:])
        assert EVENTS[:2] == store.since(0)


def test_a_copy(opens: OpensStore, tmp_path: Path) -> None:
    """A copy is one SQLite file with the same events, on which a store goes on; it replaces what was there."""
    store = opens()
    (tmp_path / "copies").mkdir()
    for count in (0, 3, len(EVENTS)):
        store.append(EVENTS[len(store.since(0)) : count])
        store.back_up(tmp_path / "copies" / STATE_FILE)
        assert [tmp_path / "copies" / STATE_FILE] == list((tmp_path / "copies").iterdir())
        copied = (tmp_path / "copies" / STATE_FILE).read_bytes()
        with contextlib.closing(SqlStore(None, home=tmp_path / "copies")) as copy:
            assert EVENTS[:count] == copy.since(0)
            copy.append([made(count + 1)])
        (tmp_path / "copies" / STATE_FILE).write_bytes(copied)
    with pytest.raises(StateUnavailable, match="could not be copied to .*nowhere"):
        store.back_up(tmp_path / "nowhere" / STATE_FILE)


def test_a_copy_while_others_write(tmp_path: Path) -> None:
    """A copy that is made while events are added is of one moment: the first events, none twice, none missing."""
    with contextlib.closing(SqlStore(None, home=tmp_path)) as store:
        store.append([made(number) for number in range(1, MANY + 1)])
        for number in range(MANY + 1, MANY + 6):
            store.append([made(number)])
            store.back_up(tmp_path / "copy.db")
            with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
                assert [(number, number)] == copy.execute("SELECT count(*), max(revision) FROM events").fetchall()


def test_a_full_disk(tmp_path: Path) -> None:
    """Without room nothing is half-written, the message says so, and with room it goes on."""
    with contextlib.closing(SqlStore(None, home=tmp_path)) as store:
        store.append(EVENTS[:1])
        store.close()
        limits = {"pages": 40}
        event.listen(
            store._database._reader,
            "connect",
            lambda connection, _: connection.execute(f"PRAGMA max_page_count={limits['pages']}"),
        )
        with pytest.raises(StateUnavailable, match="no room for the state .*: nothing was changed; make room"):
            store.append([made(number, reason="x" * 1000) for number in range(2, MANY)])
        assert EVENTS[:1] == store.since(0)
        limits["pages"] = 1_000_000
        store.close()
        store.append(EVENTS[1:2])
        assert EVENTS[:2] == store.since(0)


@pytest.mark.parametrize(("place", "is_found"), [(0, "not a database"), (4096, "")])
def test_a_damaged_file(tmp_path: Path, place: int, is_found: str) -> None:
    """A file that is damaged, at its beginning or within, is named, with the way out."""
    with contextlib.closing(SqlStore(None, home=tmp_path)) as store:
        store.append([made(number) for number in range(1, 100)])
        store.close()
        with (tmp_path / STATE_FILE).open("r+b") as file:
            file.seek(place)
            file.write(b"\xa5" * 3000)
    with (
        contextlib.closing(SqlStore(None, home=tmp_path)) as store,
        pytest.raises(StateUnavailable, match=rf"state\.db is damaged \(.*{is_found}.*\): stop the server and restore"),
    ):
        store.since(0)


def test_a_writer_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that another process holds is given up after a while; readers are not held up at all."""
    monkeypatch.setattr(engine, "BUSY_S", 0.2)
    with contextlib.closing(SqlStore(None, home=tmp_path)) as store:
        store.append(EVENTS[:1])
        with contextlib.closing(sqlite3.connect(tmp_path / STATE_FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert EVENTS[:1] == store.since(0)
            with pytest.raises(StateUnavailable, match="was held by another process"):
                store.append(EVENTS[1:2])
            other.execute("ROLLBACK")
        store.append(EVENTS[1:2])


def test_a_database_that_is_away(cluster: Cluster) -> None:
    """While PostgreSQL is away each use says so, and the first one after it is back works, on the same store."""
    with contextlib.closing(SqlStore(cluster.new_url(), home=Path())) as store:
        store.append(EVENTS[:1])
        cluster.stop()
        try:
            for _ in range(2):
                with pytest.raises(StateUnavailable, match="cannot be used: .*onnect"):
                    store.since(0)
            with pytest.raises(StateUnavailable):
                store.append(EVENTS[1:2])
        finally:
            cluster.start()
        store.append(EVENTS[1:2])
        assert EVENTS[:2] == store.since(0)


def test_a_server_that_says_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PostgreSQL that holds its connections and never answers holds up nobody for ever; then all goes on."""
    monkeypatch.setattr(engine, "_SILENT_S", 0.3)
    monkeypatch.setitem(engine._POSTGRESQL, "connect_timeout", 2)
    with contextlib.closing(SqlStore(cluster.new_url(), home=Path())) as store:
        store.append(EVENTS[:1])
        with cluster.frozen(), pytest.raises(StateUnavailable):
            store.append(EVENTS[1:2])
        store.append(EVENTS[1:2])
        assert EVENTS[:2] == store.since(0)


def test_the_file_is_private(tmp_path: Path) -> None:
    """What was done and why is readable for the server's user only, in the state and in its copies."""
    with contextlib.closing(SqlStore(None, home=tmp_path)) as store:
        store.append(EVENTS[:1])
        store.back_up(tmp_path / "copy.db")
        assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}


def test_nothing_is_connected_to_before_it_is_needed(tmp_path: Path) -> None:
    """Making a store makes no file and no connection; what cannot be reached shows at first use, without a password."""
    pytest.importorskip("psycopg", reason="PostgreSQL's tests need psycopg")
    SqlStore(None, home=tmp_path / "home").close()
    assert [] == list(tmp_path.iterdir())
    for url in ("postgresql://ana:swordfish@127.0.0.1:1/state", "postgresql://127.0.0.1:1/state?password=swordfish"):
        with contextlib.closing(SqlStore(url, home=tmp_path)) as store:
            with pytest.raises(StateUnavailable, match=r"the state postgresql://(ana@)?127\.0\.0\.1:1/state") as raised:
                store.since(0)
            assert "swordfish" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["mysql://ana:swordfish@db/state", "sqlite:///state.db", "swordfish", "postgresql://ana:swordfish@db:x/state"],
)
def test_other_databases(tmp_path: Path, url: str) -> None:
    """Any other URL is refused at once, naming the setting, and not what may be a password."""
    with pytest.raises(SettingsError, match=r"Expected `postgresql://user@host/database`.*state\.url") as raised:
        SqlStore(url, home=tmp_path)
    assert "swordfish" not in str(raised.value)


def test_postgres_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the extra is named."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[postgres\]'"):
        SqlStore("postgresql://db/state", home=tmp_path)


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    """A home that is a file says so as a StateUnavailable."""
    (tmp_path / "home").write_text("")
    with contextlib.closing(SqlStore(None, home=tmp_path / "home")) as store, pytest.raises(StateUnavailable):
        store.since(0)


def test_closing_leaves_one_file(tmp_path: Path) -> None:
    """After the last store is closed there is `state.db` and no log of SQLite's beside it, and it can be used again."""
    store = SqlStore(None, home=tmp_path)
    store.append(EVENTS[:2])
    assert {STATE_FILE, f"{STATE_FILE}-wal", f"{STATE_FILE}-shm"} == {path.name for path in tmp_path.iterdir()}
    store.close()
    assert [STATE_FILE] == [path.name for path in tmp_path.iterdir()]
    assert EVENTS[:2] == store.since(0)
    store.close()


def test_sqlite_is_durable(tmp_path: Path) -> None:
    """Each commit is on the disk before `append` returns: a log beside the file, written through."""
    opened = Database(None, home=tmp_path)
    with contextlib.closing(opened), opened.reading() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert ["wal", 2] == found
