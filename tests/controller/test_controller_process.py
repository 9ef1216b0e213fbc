"""The controller's process, with this one as its supervisor: deploys, kills at any moment, its end, its beginning."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from stage import Stage, settings_of, state_of

from loads import wait_for
from penstock.control.changes import Moved, Serving, Who
from penstock.control.control import By, Control
from penstock.control.gate import LoadGate
from penstock.control.repository import Repository
from penstock.control.sql_store import SqlStore
from penstock.controller.lock import LOCK_FILE, answering
from penstock.controller.open import operations_of
from penstock.errors import Conflict, PenstockError
from penstock.settings import Settings

BY = By(who=Who("ada@mill"))
KILLS = 3


@pytest.fixture(scope="module")
def published(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where two versions of `iris` are published; the first is the champion."""
    out = tmp_path_factory.mktemp("published")
    with operations_of(settings_of(out / "home")) as operations:
        operations.publish(bundles["iris"], BY)
        operations.publish(another(out), BY)
        operations.move("iris", "candidate", 2, BY)  # tried, so that no deploy below needs a trial
        operations.move("iris", "candidate", None, BY)
    return out / "home"


def copied(published: Path, home: Path) -> Settings:
    """Of a copy of that home, to be served for the first time."""
    shutil.copytree(published, home, ignore=shutil.ignore_patterns("routing.json"))
    return settings_of(home)


@pytest.fixture
def stage(published: Path, tmp_path: Path) -> Iterator[Stage]:
    with Stage(copied(published, tmp_path / "home")) as started:
        yield started


@pytest.fixture(scope="module")
def lasting(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A controller that several tests ask, and none ends."""
    with Stage(copied(published, tmp_path_factory.mktemp("lasting") / "home")) as started:
        yield started


def another(out: Path) -> Path:
    """Another version of `iris`: a smaller forest."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    import penstock
    from rows import IRIS_ROW

    iris = load_iris(as_frame=True)
    flowers = iris.data.set_axis(list(IRIS_ROW), axis=1)
    options = penstock.PackOptions(threshold_budget=10, golden_rows=4)
    model = RandomForestClassifier(2, random_state=0).fit(flowers, iris.target)
    return penstock.pack(model, name="iris", sample=flowers, out=out, options=options).path


def events_of(home: Path) -> list[object]:
    with contextlib.closing(SqlStore(None, home=home)) as store:
        return [event.change for event in store.since(0)]


def test_deploy_and_rollback(lasting: Stage) -> None:
    """Both return when all workers have applied them; `model` and `history` say what serves, since when, by whom."""
    with contextlib.closing(lasting.operations()) as operations:
        deployed = operations.move("iris", "champion", 2, BY)
        assert (1, 2, True, []) == (deployed.before, deployed.after, deployed.is_applied, deployed.waits_for)
        assert {"champion": 2} == lasting.wanted.table.models["iris"].aliases
        back = operations.rollback("iris", BY)
        assert (2, 1, True) == (back.before, back.after, back.is_applied)
        assert {1, 2} == set(lasting.wanted.table.models["iris"].versions)
        wait_for(lambda: operations.model("iris").serving == {"mill": {"champion": 1}})
        history = operations.history("iris")
    assert [1, 2, 1] == [span.version for span in history.wanted if span.alias == "champion"]
    assert {"ada@mill"} == {event.who.name for event in history.events if isinstance(event.change, Moved)}


def test_commands_find_the_controller(stage: Stage) -> None:
    """`operations_of` asks the controller that holds the home; at its end the next command does it itself."""
    with operations_of(stage.settings) as operations:
        assert operations.move("iris", "champion", 2, BY).is_applied
    assert 0 == stage.leave()
    with operations_of(stage.settings) as operations:
        assert not operations.move("iris", "champion", 1, BY).is_applied
    assert {"champion": 1} == stage.wanted.table.models["iris"].aliases
    stage.start()
    with operations_of(stage.settings) as operations:
        wait_for(lambda: operations.model("iris").serving == {"mill": {"champion": 1}})


def test_two_operators_at_once(lasting: Stage) -> None:
    """Of two who insist on the same revision one is refused, over HTTP as well."""
    with contextlib.closing(lasting.operations()) as operations:
        by = msgspec.structs.replace(BY, if_revision=operations.model("iris").revision)
        outcomes = []

        def move(alias: str) -> None:
            try:
                outcomes.append(operations.move("iris", alias, 2, by).after)
            except Conflict:
                outcomes.append(None)

        movers = [threading.Thread(target=move, args=(alias,)) for alias in ("left", "right")]
        for mover in movers:
            mover.start()
        for mover in movers:
            mover.join(60)
        assert {2, None} == set(outcomes)
        assert 1 == len({"left", "right"} & set(operations.model("iris").aliases))


def test_leaving_in_order(stage: Stage) -> None:
    """A controller that is told to leave notes what is served no more, takes its address away, and exits 0."""
    wait_for(lambda: state_of(stage.home).model("iris").serving)
    assert 0 == stage.leave()
    assert {} == state_of(stage.home).model("iris").serving
    assert None is answering(stage.home)


def test_the_supervisor_is_gone(stage: Stage) -> None:
    """A controller whose supervisor was killed leaves as if it had been told to."""
    wait_for(lambda: state_of(stage.home).model("iris").serving)
    assert 0 == stage.vanish()
    assert {} == state_of(stage.home).model("iris").serving


def test_killed_while_deploying(stage: Stage) -> None:
    """kill -9 at any moment of a deploy: before its event nothing was changed, after it the next controller does it.

    The history has no gap, and the commands that were answered hold.
    """
    chance = random.Random(7)
    for _ in range(KILLS):
        before = state_of(stage.home).model("iris").aliases["champion"]
        wanted = 3 - before
        heard = len(events_of(stage.home))
        mover = threading.Thread(target=_try_to_move, args=(stage, wanted))
        mover.start()
        if chance.random() < 0.5:
            wait_for(lambda heard=heard: len(events_of(stage.home)) > heard)
        stage.kill()
        mover.join(60)
        stage.start()
        state = state_of(stage.home)
        champion = state.model("iris").aliases["champion"]
        wait_for(lambda champion=champion: stage.wanted.table.models["iris"].aliases["champion"] == champion)
        wait_for(
            lambda champion=champion: state_of(stage.home).model("iris").serving == {"mill": {"champion": champion}}
        )
    with contextlib.closing(stage.operations()) as operations:
        served = operations.history("iris").served
    assert [span.until for span in served[:-1]] == [span.since for span in served[1:]]
    assert None is served[-1].until


def _try_to_move(stage: Stage, number: int) -> None:
    with contextlib.suppress(PenstockError), contextlib.closing(stage.operations()) as operations:
        operations.move("iris", "champion", number, BY)


def test_an_event_and_nothing_after_it(stage: Stage) -> None:
    """A controller that was killed between the event and `routing.json` has its successor finish the deploy."""
    wait_for(lambda: state_of(stage.home).model("iris").serving)
    stage.kill()
    with contextlib.closing(SqlStore(None, home=stage.home)) as store:
        repository = Repository(None, home=stage.home)
        Control(store, repository, LoadGate(repository, lambda path: None, node="mill")).deploy("iris", 2, BY)
    assert {"champion": 1} == stage.wanted.table.models["iris"].aliases
    stage.start()
    wait_for(lambda: stage.wanted.table.models["iris"].aliases == {"champion": 2})
    wait_for(lambda: state_of(stage.home).model("iris").serving == {"mill": {"champion": 2}})


def test_a_home_has_one_server(lasting: Stage) -> None:
    """A second server's controller is refused the home, at once, and says which file is held."""
    second = Stage(lasting.settings)
    second.start()
    assert f"another server or command holds {lasting.home / LOCK_FILE}" in second.failure
    assert 1 == second.ended()
    with contextlib.closing(lasting.operations()) as operations:
        assert operations.move("iris", "champion", 2, BY).is_applied


def test_a_table_that_a_command_has_written(stage: Stage) -> None:
    """What a command deploys while the controller is dead reaches the workers with the next one."""
    stage.kill()
    with operations_of(stage.settings) as operations:
        assert not operations.move("iris", "champion", 2, BY).is_applied
    stage.applied.clear()
    stage.start()
    wait_for(lambda: state_of(stage.home).model("iris").serving == {"mill": {"champion": 2}})
    served = [change.after for change in events_of(stage.home) if isinstance(change, Serving)]
    assert {"champion": 2} == served[-1]
