"""What serves goes on without its controller, its database, its repository; and follows them when they are back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from governed import ADA, NODE, Governed, governed
from loads import Load, ask, iris_call, wait_for, workers_of
from penstock.control.answers import MoveAnswer
from penstock.control.history import holds
from penstock.controller.lock import LOCK_FILE, answering
from penstock.controller.open import operations_of
from penstock.errors import PenstockError, RepositoryUnavailable, StateUnavailable
from penstock.settings import Settings
from postgres import private_cluster
from running import Running, command, environment

CALLERS = 4
BREATH_S = 0.01
KILLS = 3
CALL = iris_call()


class Gentle(Load):
    """Callers that take a breath: what is under way beside them is to go on."""

    def __init__(self, server: Running) -> None:
        super().__init__(server, CALLERS, CALL)

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._is_over:
            told = await ask(reader, writer, self._data)
            self.statuses[told.status] += 1
            self.answered.append("")
            await asyncio.sleep(BREATH_S)
            if told.is_last:
                return


def moved(home: Path, version: int) -> MoveAnswer:
    """`penstock deploy iris VERSION --home HOME`."""
    with operations_of(Settings(home=str(home))) as operations:
        return operations.move("iris", "champion", version, ADA)


def controller_of(server: Running) -> int:
    """The process id of the controller that answers."""
    wait_for(lambda: answering(server.home), "a controller")
    address = answering(server.home)
    assert address is not None
    return address.pid


def kill_controller(server: Running) -> None:
    """kill -9 of the controller, and wait until another one answers."""
    killed = controller_of(server)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: (now := answering(server.home)) is not None and now.pid != killed, "another controller")


def assert_none_failed(load: Load) -> None:
    assert ([], {200}, 0) == (load.lost, set(load.statuses), load.refused)


@pytest.fixture(scope="module")
def serving(irises: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """Two workers that serve `iris`, of which three versions are published."""
    with governed(tmp_path_factory.mktemp("serving") / "home") as started:
        for path in irises[:3]:
            started.publish(path)
        yield started


@pytest.fixture(scope="module")
def irises(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four versions of `iris`: small forests."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    import penstock
    from rows import IRIS_ROW

    iris = load_iris(as_frame=True)
    flowers = iris.data.set_axis(list(IRIS_ROW), axis=1)
    out = tmp_path_factory.mktemp("irises")
    options = penstock.PackOptions(threshold_budget=10, golden_rows=4)
    return [
        penstock.pack(
            RandomForestClassifier(trees, random_state=0).fit(flowers, iris.target),
            name="iris",
            sample=flowers,
            out=out,
            options=options,
        ).path
        for trees in (2, 3, 4, 5)
    ]


def test_a_controller_that_is_killed_while_deploying(serving: Governed) -> None:
    """kill -9 of the controller, again and again, in deploys, under load: no request fails, the next controller brings
    every worker to what the state says, and the history has no gap.
    """
    home = serving.home
    with Gentle(serving.server) as load:
        for turn in range(KILLS):
            load.wait_for(100)
            mover = threading.Thread(target=_try_to_move, args=(home, 2 + turn % 2))
            mover.start()
            kill_controller(serving.server)
            mover.join(60)
            assert moved(home, 3 - turn).is_applied
        load.wait_for(100)
    assert_none_failed(load)
    with operations_of(Settings(home=str(home))) as operations:
        wait_for(lambda: operations.model("iris").serving == {NODE: {"champion": 1}})
        history = operations.history("iris")
    assert [event.revision for event in history.events] == list(range(1, len(history.events) + 1))
    spans = history.served
    assert [span.until for span in spans[:-1]] == [span.since for span in spans[1:]]
    assert all(
        sum(holds(span, event.at) for span in spans) == 1 for event in history.events if event.at > spans[0].since
    )
    assert "Traceback" not in serving.server.text


def _try_to_move(home: Path, version: int) -> None:
    with contextlib.suppress(PenstockError):
        moved(home, version)


def test_a_controller_that_hangs(serving: Governed) -> None:
    """A controller that is stopped holds up nobody who asks for predictions, and goes on where it was."""
    os.kill(controller_of(serving.server), signal.SIGSTOP)
    with Gentle(serving.server) as load:
        load.wait_for(100)
        os.kill(workers_of(serving.server)[0], signal.SIGKILL)
        wait_for(lambda: len(workers_of(serving.server)) == 2, "a worker in its place")
        load.wait_for(100)
    assert {200} == set(load.statuses)
    os.kill(controller_of(serving.server), signal.SIGCONT)
    assert moved(serving.home, 2).is_applied


def test_the_database_is_away(irises: list[Path], tmp_path: Path) -> None:
    """PostgreSQL stops for a while, under load: predictions go on, also of a worker and a whole server that start
    meanwhile; commands say `state_unavailable`; when it is back everything goes on, and nothing was lost.
    """
    home = tmp_path / "home"
    with private_cluster() as cluster:
        url = cluster.new_url()
        with governed(home, state__url=url) as serving:
            for path in irises:
                serving.publish(path)
            assert serving.deploy("iris", 2).is_applied
            with Gentle(serving.server) as load:
                load.wait_for(100)
                cluster.stop()
                with pytest.raises(StateUnavailable):
                    serving.deploy("iris", 3)
                kill_controller(serving.server)
                with pytest.raises(StateUnavailable):
                    moved(home, 3)
                load.wait_for(100)
                cluster.start()
                wait_for(lambda: _is_moved(home, 3), "a deploy")
                load.wait_for(100)
            assert_none_failed(load)
            cluster.stop()
        with governed(home, state__url=url) as serving, Gentle(serving.server) as load:
            load.wait_for(100)
            with serving.server.client() as client:
                assert {"iris": {"champion": 3}} == client.get("/health/ready").json()["models"]
            cluster.start()
            wait_for(lambda: _is_moved(home, 1), "a deploy")
        assert_none_failed(load)
        assert "Traceback" not in serving.server.text


def _is_moved(home: Path, version: int) -> bool:
    try:
        return moved(home, version).is_applied
    except StateUnavailable:
        return False


def test_the_repository_is_away(serving: Governed, irises: list[Path], tmp_path: Path) -> None:
    """Where a version cannot be fetched the deploy says so and changes nothing; later it can be."""
    repository, away = serving.home / "repository", tmp_path / "away"
    with Gentle(serving.server) as load, operations_of(Settings(home=str(serving.home))) as operations:
        number = operations.publish(irises[-1], ADA).version
        before = operations.model("iris").aliases
        repository.rename(away)
        repository.write_text("")
        with pytest.raises(RepositoryUnavailable):
            operations.move("iris", "champion", number, ADA)
        shown = operations.model("iris")
        assert (before, {}) == (shown.aliases, shown.versions[-1].failures)
        repository.unlink()
        away.rename(repository)
        assert operations.move("iris", "champion", number, ADA).is_applied
        load.wait_for(100)
    assert_none_failed(load)


def test_two_servers_of_one_home(serving: Governed) -> None:
    """A second server of a home is refused, with what holds it; the first one notices nothing."""
    line = command([], serving.home, "--port", "0", "--workers", "1")
    second = subprocess.run(
        line, env=environment({"control__port": 0}), capture_output=True, text=True, timeout=60, cwd=serving.home
    )
    assert 1 == second.returncode
    assert f"another server or command holds {serving.home / LOCK_FILE}" in second.stderr
    assert moved(serving.home, 2).is_applied
