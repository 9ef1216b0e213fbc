"""From the state to `routing.json` and back into the history: with real state, and workers played by the test."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from machines import BY, Machine, now

from loads import wait_for
from penstock.control.changes import Serving, Tried
from penstock.control.history import history_of
from penstock.errors import MoveRefused, StateUnavailable

FAILED = "version 2 cannot be served here: no memory"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "home") as made:
        made.publish("churn-1", "churn-2", "churn-3")
        wait_for(lambda: made.serving("churn") == {"champion": 1}, "the first version is served")
        yield made


def test_a_deploy_ends_when_all_workers_serve_it(machine: Machine) -> None:
    """`wait` returns once the last worker has applied the table; the history then says that it is served, once."""
    assert [] == machine.deploy("churn", 2)
    assert {"churn": 2} == machine.champions
    wait_for(lambda: machine.serving("churn") == {"champion": 2})
    machine.convergence.wake()
    served = [event.change for event in machine.control.events() if isinstance(event.change, Serving)]
    assert [{"champion": 1}, {"champion": 2}] == [change.after for change in served]


def test_workers_that_do_not_apply_are_named(machine: Machine) -> None:
    """Who waits too long is told which worker has not applied it, and the history does not say that it is served."""
    machine.is_deaf = True
    machine.control.deploy("churn", 2, BY)
    wait_for(lambda: machine.champions == {"churn": 2})
    at = machine.wanted.revision
    machine.convergence.stands({0: at, 1: at - 1}, {}, at)
    revision = machine.model("churn").revision
    assert ["worker 1"] == machine.convergence.wait(revision, 0.2, {"churn"})
    assert {"champion": 1} == machine.serving("churn")
    machine.convergence.stands({0: at, 1: at}, {}, at)
    assert [] == machine.convergence.wait(revision, 30, {"churn"})


def test_the_version_before_stays_loaded(machine: Machine) -> None:
    """A rollback changes the table alone: both versions stay in it, with the paths that they had."""
    machine.deploy("churn", 2)
    before = machine.wanted
    assert [] == machine.wait("churn", machine.control.rollback("churn", BY))
    assert {"churn": 1} == machine.champions
    assert before.paths == machine.wanted.paths
    assert {1, 2} == set(machine.wanted.table.models["churn"].versions)


def test_a_version_that_fails_in_a_worker_is_put_back(machine: Machine) -> None:
    """The old version serves on, the reason is in the state, and nothing is tried again and again."""
    machine.failing["churn/2"] = "no memory"
    assert [] == machine.deploy("churn", 2)
    assert FAILED == machine.convergence.unfit("churn", 2)
    wait_for(lambda: machine.champions == {"churn": 1}, "the old version is put back")
    wait_for(lambda: machine.model("churn").version(2).failures == {"mill": "no memory"})
    written = machine.wanted.revision
    for _ in range(3):
        machine.apply()
        machine.convergence.decide()
    assert written == machine.wanted.revision
    assert {"champion": 1} == machine.serving("churn")
    assert {"champion": 2} == machine.model("churn").aliases
    failed = [event for event in machine.control.events() if isinstance(event.change, Tried) and event.change.why]
    assert 1 == len(failed)


def test_a_new_move_tries_again(machine: Machine) -> None:
    """What failed is tried again when an alias of the model is moved, and when the same is asked for again."""
    machine.failing["churn/2"] = "no memory"
    machine.deploy("churn", 2)
    wait_for(lambda: machine.champions == {"churn": 1})
    machine.convergence.try_again("churn", 2)
    machine.wait("churn", [])
    assert FAILED == machine.convergence.unfit("churn", 2)
    wait_for(lambda: machine.champions == {"churn": 1})
    machine.failing.clear()
    machine.control.move("churn", "candidate", 3, BY)
    assert [] == machine.wait("churn", [])
    assert (None, {"churn": 2}) == (machine.convergence.unfit("churn", 2), machine.champions)
    wait_for(lambda: machine.serving("churn") == {"champion": 2, "candidate": 3})


def test_asking_again_tries_again(machine: Machine) -> None:
    """A deploy of what the state says already, and what is not served for a reason, gets another try."""
    machine.failing["churn/2"] = "no memory"
    machine.deploy("churn", 2)
    wait_for(lambda: machine.champions == {"churn": 1})
    machine.failing.clear()
    machine.convergence.try_again("churn", 2)
    assert [] == machine.wait("churn", [])
    assert (None, {"churn": 2}) == (machine.convergence.unfit("churn", 2), machine.champions)


def test_a_restarted_worker_takes_nothing_from_the_others(machine: Machine) -> None:
    """A version that all workers served stays in the table when one that has come since cannot load it."""
    machine.deploy("churn", 2)
    at = machine.wanted.revision
    machine.convergence.stands({0: at, 1: at}, {"churn/2": "no memory"}, at)
    wait_for(lambda: machine.model("churn").version(2).failures, "the failure is in the history")
    machine.convergence.decide()
    assert ({"churn": 2}, at) == (machine.champions, machine.wanted.revision)
    assert [] == machine.convergence.wait(machine.model("churn").revision, 30, {"churn"})


def test_a_failure_of_an_older_table_counts_no_more(machine: Machine) -> None:
    """What a worker could not load of a `routing.json` before this one says nothing about the new one."""
    machine.is_deaf = True
    before = machine.wanted.revision
    machine.control.deploy("churn", 2, BY)
    wait_for(lambda: machine.champions == {"churn": 2})
    machine.convergence.stands({0: before, 1: before}, {"churn/2": "no memory"}, before)
    assert None is machine.convergence.unfit("churn", 2)


def test_a_first_version_that_does_not_load(machine: Machine) -> None:
    """The first version of a model is its champion without a gate: `wait` says why it cannot be served, at once."""
    machine.bundles.failing["stock-1"] = "killed by SIGSEGV"
    machine.publish("stock-1")
    assert [] == machine.wait("stock", [])
    assert "version 1 cannot be served here: killed by SIGSEGV" == machine.convergence.unfit("stock", 1)
    assert {"churn": 1} == machine.champions
    assert 1 == machine.bundles.trials["stock-1"]
    machine.convergence.decide()
    assert 1 == machine.bundles.trials["stock-1"]


def test_nothing_can_be_served_at_all(tmp_path: Path) -> None:
    """A home whose only version does not load serves nothing, and `routing.json` says why."""
    with Machine(tmp_path / "home") as machine:
        machine.bundles.failing["stock-1"] = "killed by SIGSEGV"
        machine.publish("stock-1")
        assert [] == machine.wait("stock", [])
        assert ({}, {"stock/1"}) == (machine.champions, set(machine.wanted.failures))


def test_a_refused_version_never_becomes_champion(machine: Machine) -> None:
    """What fails its trial is not deployed, and `routing.json` is not touched."""
    machine.bundles.failing["churn-2"] = "golden row 3 differs"
    written = machine.wanted.revision
    with pytest.raises(MoveRefused, match="golden row 3 differs"):
        machine.deploy("churn", 2)
    assert ({"churn": 1}, written) == (machine.champions, machine.wanted.revision)
    assert {"mill": "golden row 3 differs"} == machine.model("churn").version(2).failures


def test_a_slow_trial_holds_up_no_other_model(machine: Machine) -> None:
    """While a version is being tried, others are deployed; who waits for it waits."""
    machine.bundles.slow["stock-1"] = threading.Event()
    machine.publish("stock-1")
    wait_for(lambda: machine.bundles.trials["stock-1"])
    assert [] == machine.deploy("churn", 2)
    assert ["version 1 of 'stock' is being fetched and tried"] == machine.convergence.wait(1, 0.1, {"stock", "churn"})
    machine.bundles.slow["stock-1"].set()
    assert [] == machine.wait("stock", [])
    assert {"churn": 2, "stock": 1} == machine.champions


def test_the_repository_is_away(machine: Machine) -> None:
    """What cannot be fetched is waited for; everything else goes on, and it is served when the repository is back."""
    machine.bundles.is_away = True
    machine.publish("stock-1")
    assert ["version 1 of 'stock' waits: the repository is away"] == machine.wait("stock", [], 1.0)
    assert {"churn": 1} == machine.champions
    assert {} == machine.model("stock").version(1).failures
    machine.bundles.is_away = False
    wait_for(lambda: machine.champions == {"churn": 1, "stock": 1})


def test_the_database_is_away(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """Commands say that the state is away; what is served goes on; what the workers told meanwhile is not lost."""
    caplog.set_level("INFO")
    machine.is_deaf = True
    machine.control.deploy("churn", 2, BY)
    wait_for(lambda: machine.champions == {"churn": 2})
    machine.store.is_away = True
    machine.failing["churn/2"] = "no memory"
    machine.apply()
    with pytest.raises(StateUnavailable):
        machine.control.deploy("churn", 3, BY)
    wait_for(lambda: "the state is away" in caplog.text)
    machine.store.is_away, machine.is_deaf = False, False
    machine.convergence.wake()
    wait_for(lambda: machine.champions == {"churn": 1})
    assert {"mill": "no memory"} == machine.model("churn").version(2).failures
    assert 1 == caplog.text.count("cannot follow the wanted state")
    wait_for(lambda: "follows the wanted state again" in caplog.text)


def test_no_room_for_the_table(machine: Machine) -> None:
    """A `routing.json` that cannot be written leaves the old one, and is written when it can be."""
    obstacle = machine.home / f"routing.json.{os.getpid()}"
    obstacle.mkdir()
    machine.control.deploy("churn", 2, BY)
    [lagging] = machine.wait("churn", [], 1.0)
    assert "the controller, which cannot follow the state" in lagging
    assert {"churn": 1} == machine.champions
    obstacle.rmdir()
    machine.convergence.wake()
    wait_for(lambda: machine.champions == {"churn": 2})


def test_another_controller_changes_the_state(machine: Machine, tmp_path: Path) -> None:
    """Two machines on one state: each serves what it says, tries a version itself, and shows in the history."""
    with Machine(tmp_path / "other", node="forge", state=machine.home) as other:
        wait_for(lambda: other.champions == {"churn": 1})
        other.bundles.failing["churn-2"] = "a library is missing"
        assert [] == machine.deploy("churn", 2)
        wait_for(lambda: machine.model("churn").version(2).failures == {"forge": "a library is missing"})
        assert ({"churn": 2}, {"churn": 1}) == (machine.champions, other.champions)
        assert [] == machine.deploy("churn", 3)
        wait_for(lambda: other.champions == {"churn": 3}, "the other machine follows")
        wait_for(lambda: machine.model("churn").serving == {"mill": {"champion": 3}, "forge": {"champion": 3}})
    assert {"churn-1": 1, "churn-2": 1, "churn-3": 1} == dict(machine.bundles.trials)
    assert {"churn-1": 1, "churn-2": 1, "churn-3": 1} == dict(other.bundles.trials)


def test_a_killed_controller_leaves_no_gap(machine: Machine) -> None:
    """One controller after another of the same server: what was served is served on, also in the history."""
    began_at = now() - timedelta(hours=1)
    machine.kill()
    machine.control.deploy("churn", 2, BY)  # the event is there, and nothing else: it was killed just after
    with Machine(machine.home, serves_since=began_at, bundles=machine.bundles) as again:
        wait_for(lambda: again.serving("churn") == {"champion": 2})
        spans = history_of("churn", again.control.events()).served
    assert [1, 2] == [span.version for span in spans]
    assert spans[0].until == spans[1].since


def test_a_killed_server_ends_in_the_history(machine: Machine) -> None:
    """What a server served that ended without a word has ended when the next one begins, and begins anew."""
    machine.kill()
    with Machine(machine.home, serves_since=now(), bundles=machine.bundles) as again:
        wait_for(lambda: again.serving("churn") == {"champion": 1} and again.kinds("churn").count("serving") == 3)
        spans = history_of("churn", again.control.events()).served
    assert [1, 1] == [span.version for span in spans]
    assert spans[0].until is not None
    assert spans[0].until < spans[1].since


def test_a_farewell_ends_in_the_history(machine: Machine) -> None:
    """A controller that leaves with its server notes that nothing is served here any more."""
    machine.kill()
    machine.convergence.farewell()
    assert {} == machine.serving("churn")
    assert [] == [span for span in history_of("churn", machine.control.events()).served if span.until is None]


def test_what_was_served_needs_no_repository(machine: Machine) -> None:
    """At its start a controller takes over `routing.json` as it is: nothing is fetched, tried or written again."""
    machine.deploy("churn", 2)
    machine.kill()
    before = (machine.wanted, machine.bundles.trials.copy())
    machine.bundles.is_away = True
    with Machine(machine.home, bundles=machine.bundles) as again:
        wait_for(lambda: again.control.state().revision)
        again.convergence.decide()
        assert before == (again.wanted, again.bundles.trials)


def test_workers_behind_are_told_again(machine: Machine) -> None:
    """A table that was written while no controller ran, by a command, reaches the workers with the next controller."""
    machine.deploy("churn", 2)
    at = machine.wanted.revision
    machine.kill()
    again = Machine(machine.home, bundles=machine.bundles)
    again.convergence.stands({0: at - 1, 1: at - 1}, {}, at - 1)
    again.convergence.decide()
    assert [at] == again.told
    assert [] == again.convergence.wait(again.model("churn").revision, 30, {"churn"})


def test_revisions_of_the_table_only_grow(machine: Machine, tmp_path: Path) -> None:
    """A home that is given another state, which has seen less, still tells its workers something new."""
    machine.deploy("churn", 2)
    machine.kill()
    at = machine.wanted.revision
    with Machine(machine.home, state=tmp_path / "other", bundles=machine.bundles) as again:
        again.publish("stock-1")
        assert [] == again.wait("stock", [])
        assert {"stock": 1} == again.champions
        assert at < again.wanted.revision


def test_the_number_of_another_content(machine: Machine, tmp_path: Path) -> None:
    """What another state means by the same number is another bundle: it is not served under it."""
    machine.kill()
    with Machine(machine.home, state=tmp_path / "other", bundles=machine.bundles) as again:
        again.publish("churn-9")
        assert [] == again.wait("churn", [])
        assert {1: "digest of churn-9"} == again.wanted.table.models["churn"].versions
        assert again.wanted.path("churn", 1).name == "churn-9"


def test_whoever_waits_is_let_go_at_the_end(machine: Machine) -> None:
    """A command that waits when the server stops is told so at once."""
    machine.is_deaf = True
    answers: list[list[str]] = []
    events = machine.control.deploy("churn", 2, BY)
    waiting = threading.Thread(target=lambda: answers.append(machine.wait("churn", events)))
    waiting.start()
    machine.convergence.end()
    waiting.join(30)
    assert [["the server is stopping: its next start serves it"]] == answers


def test_what_is_served_after_all(machine: Machine) -> None:
    """A version that a worker could not load counts as served once its successor can, and the reason is gone."""
    at = machine.wanted.revision
    machine.convergence.stands({0: at, 1: at}, {"churn/1": "no memory"}, at)
    wait_for(lambda: machine.model("churn").version(1).failures == {"mill": "no memory"})
    machine.convergence.stands({0: at}, {}, at)
    assert None is machine.convergence.unfit("churn", 1)
    wait_for(lambda: machine.model("churn").version(1).failures == {})
    assert ({"churn": 1}, at) == (machine.champions, machine.wanted.revision)


def test_the_only_version_is_tried_again(machine: Machine) -> None:
    """A model whose only version no worker can load is not in the table, which says why, and holds up no other; asked
    for again it is fetched and tried before the workers are told.
    """
    machine.failing["stock/1"] = "model.onnx was changed"
    machine.publish("stock-1")
    assert [] == machine.wait("stock", [])
    wait_for(lambda: machine.model("stock").version(1).failures == {"mill": "model.onnx was changed"})
    wait_for(lambda: set(machine.wanted.failures) == {"stock/1"})
    assert [] == machine.deploy("churn", 2)
    assert {"churn": 2} == machine.champions
    machine.bundles.slow["stock-1"] = threading.Event()
    machine.convergence.try_again("stock", 1)
    wait_for(lambda: machine.bundles.trials["stock-1"] == 2)
    assert ["version 1 of 'stock' is being fetched and tried"] == machine.wait("stock", [], 0.2)
    assert {"churn": 2} == machine.champions
    machine.failing.clear()
    machine.bundles.slow["stock-1"].set()
    assert [] == machine.wait("stock", [])
    assert (None, {"churn": 2, "stock": 1}) == (machine.convergence.unfit("stock", 1), machine.champions)
    wait_for(lambda: machine.serving("stock") == {"champion": 1})


def test_what_a_dead_controller_had_begun(machine: Machine) -> None:
    """A version that failed in a worker after its controller was killed is taken back by the next one; the worker that
    was not told of it is no sign that it was served.
    """
    machine.is_deaf = True
    machine.failing["churn/2"] = "no memory"
    machine.control.deploy("churn", 2, BY)
    wait_for(lambda: machine.champions == {"churn": 2})
    machine.kill()
    again = Machine(machine.home, bundles=machine.bundles)
    again.is_deaf = True
    again.convergence.decide()
    at = again.wanted.revision
    again.convergence.stands({0: at, 1: at - 1}, {"churn/2": "no memory"}, at)
    again.convergence.decide()
    assert {"churn": 1} == again.champions
    again.store.close()


def test_a_server_that_starts_with_a_worker_that_cannot_load(machine: Machine) -> None:
    """What a server begins with stays, where one of its workers has it and there is nothing else to serve."""
    machine.kill()
    again = Machine(machine.home, bundles=machine.bundles)
    again.is_deaf = True
    again.convergence.decide()
    at = again.wanted.revision
    again.convergence.stands({0: at, 1: at}, {"churn/1": "no memory"}, at)
    again.convergence.decide()
    assert ({"churn": 1}, at) == (again.champions, again.wanted.revision)
    assert "version 1 cannot be served here: no memory" == again.convergence.unfit("churn", 1)
    again.store.close()
