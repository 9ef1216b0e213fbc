"""Commands without a running controller: under the lock, on a real state, with real bundles and real trials."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller.convergence import NO_SERVER
from penstock.controller.lock import locked
from penstock.controller.open import operations_of
from penstock.errors import Conflict, ControlError
from penstock.routing import read_wanted
from penstock.settings import Settings

BY = By(who=Who("ada@mill"))


def settings_of(home: Path) -> Settings:
    return Settings(home=str(home))


def test_what_a_command_changes_is_served_next(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Publishing without a server writes `routing.json`, from which the next server starts, with absolute paths."""
    with operations_of(settings_of(tmp_path)) as operations:
        answer = operations.publish(bundles["iris"], BY)
        shown = operations.model("iris")
    assert answer.move is not None
    assert (1, True, [NO_SERVER]) == (answer.version, answer.is_new, answer.move.waits_for)
    wanted = read_wanted(tmp_path)
    assert {1: answer.digest} == wanted.table.models["iris"].versions
    assert wanted.path("iris", 1).is_absolute()
    assert {"champion": 1} == shown.aliases
    assert {} == shown.serving


def test_publishing_again_changes_nothing(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The same content is the same version, and `routing.json` stays as it is."""
    with operations_of(settings_of(tmp_path)) as operations:
        operations.publish(bundles["iris"], BY)
        before = read_wanted(tmp_path)
        again = operations.publish(bundles["iris"], BY)
    assert (1, False, None) == (again.version, again.is_new, again.move)
    assert before == read_wanted(tmp_path)


def test_a_revision_that_has_passed(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Who insists on the revision that he read is refused once somebody else has changed the model."""
    with operations_of(settings_of(tmp_path)) as operations:
        operations.publish(bundles["iris"], BY)
        read = operations.model("iris").revision
        operations.move("iris", "candidate", 1, msgspec.structs.replace(BY, if_revision=read))
        with pytest.raises(Conflict, match=f"you had read {read}"):
            operations.move("iris", "shadow", 1, msgspec.structs.replace(BY, if_revision=read))
        assert {"champion": 1, "candidate": 1} == operations.model("iris").aliases


def test_two_commands_at_once(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A command waits for another one that is at work in the home."""
    began, numbers = threading.Event(), []

    def publish() -> None:
        began.set()
        with operations_of(settings_of(tmp_path)) as operations:
            numbers.append(operations.publish(bundles["amount"], BY).version)

    with operations_of(settings_of(tmp_path)) as operations:
        other = threading.Thread(target=publish)
        other.start()
        began.wait()
        operations.publish(bundles["iris"], BY)
        assert [] == numbers
    other.join(60)
    assert [1] == numbers
    assert {"amount", "iris"} == set(read_wanted(tmp_path).table.models)


def test_a_lock_that_nobody_answers_for(tmp_path: Path) -> None:
    """A home that stays locked without an address is told of, with the ways out."""
    with locked(tmp_path), pytest.raises(ControlError, match="--url"), operations_of(settings_of(tmp_path), wait_s=0.1):
        pass
