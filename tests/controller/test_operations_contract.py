"""What every `Operations` keeps to: the ones done here, and those of a controller that is asked over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from loads import wait_for
from penstock.assignment import Arm, Experiment, settled
from penstock.control.control import By
from penstock.controller.api import api_of
from penstock.controller.operations import Operations
from penstock.controller.remote import RemoteOperations
from penstock.controller.restore import restore
from penstock.errors import (
    BundleRefused,
    Conflict,
    ControlError,
    InUse,
    MoveRefused,
    PenstockError,
    SettingsError,
    Unknown,
)
from planes import ANA, plane_of, served, settings_of
from variants import variant

RULE = "models: {iris: {rules: {champion: {floors: {accuracy: 2.0}}}}}"


@pytest.fixture(params=["local", "remote"])
def operations(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Operations]:
    """Both kinds, each on an empty home."""
    settings = settings_of(tmp_path / "home")
    with plane_of(settings) as plane, contextlib.ExitStack() as stack:
        if request.param == "local":
            yield plane.operations
            return
        url = stack.enter_context(served(api_of(plane.operations, settings)))
        yield stack.enter_context(contextlib.closing(RemoteOperations(url)))


@pytest.fixture(scope="session")
def second(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another version of `iris`, as one file."""
    return variant(bundles["iris"], tmp_path_factory.mktemp("variants"), 5, is_archive=True)


@pytest.fixture
def filled(operations: Operations, bundles: dict[str, Path], second: Path) -> Operations:
    """`iris` in two versions; the first one is its champion."""
    operations.publish(bundles["iris"], ANA)
    operations.publish(second, ANA, "candidate")
    return operations


def because(reason: str, *, force: bool = False) -> By:
    return msgspec.structs.replace(ANA, reason=reason, is_forced=force)


def test_publish(operations: Operations, bundles: dict[str, Path], second: Path) -> None:
    """A directory and an archive become versions, each content once; the first is champion, an alias is given."""
    first = operations.publish(bundles["iris"], because("the first"))
    assert ("iris", 1, True) == (first.model, first.version, first.is_new)
    assert first.move is not None
    assert ("champion", None, 1, True) == (
        first.move.alias,
        first.move.before,
        first.move.after,
        first.move.is_changed,
    )
    again = operations.publish(bundles["iris"], ANA)
    assert (1, False, first.digest) == (again.version, again.is_new, again.digest)
    other = operations.publish(second, ANA, "Staging")
    assert other.move is not None
    assert (2, "candidate", 2) == (other.version, other.move.alias, other.move.after)


def test_move_and_rollback(filled: Operations) -> None:
    """A deploy and its rollback say what was and what is, and that no server here has applied it."""
    moved = filled.move("iris", "champion", 2, because("better"))
    assert (1, 2, True, False) == (moved.before, moved.after, moved.is_changed, moved.is_applied)
    assert "no server runs here" in moved.waits_for[0]
    assert not filled.move("iris", "champion", 2, ANA).is_changed
    back = filled.rollback("iris", because("worse"))
    assert (2, 1) == (back.before, back.after)
    assert filled.move("iris", "candidate", None, ANA).after is None
    assert {"champion": 1} == filled.model("iris").aliases


def test_what_is_known(filled: Operations) -> None:
    """Models, one model and the history are told in full, with who and why, at any moment."""
    filled.move("iris", "champion", 2, because("besser\n√"))
    [model] = filled.models()
    assert model == filled.model("iris")
    assert {"candidate": 2, "champion": 2} == model.aliases
    assert 1 == model.rollback_to
    told = filled.history("iris")
    last = [event for event in told.events if event.kind == "moved"][-1]
    assert ("ana@quay", "besser\n√") == (last.who.name, last.reason)
    assert {} == filled.history("iris", told.events[0].at.replace(year=2020)).aliases_at
    assert {"champion": 2, "candidate": 2} == filled.history("iris", last.at).aliases_at
    assert 1 == filled.history("iris", last.at - (last.at - told.events[1].at) / 2).aliases_at["champion"]


def test_weigh(filled: Operations) -> None:
    """An experiment begins, is weighed anew and ends; what was, what is and the arms' buckets are told."""
    begun = filled.weigh("iris", experiment(500), because("to see"))
    assert (None, settled(experiment(500)), True) == (begun.before, begun.after, begun.is_changed)
    assert "no server runs here" in begun.waits_for[0]
    raised = filled.weigh("iris", experiment(700), ANA)
    assert (begun.after, settled(experiment(700))) == (raised.before, raised.after)
    assert raised.after == filled.model("iris").experiment
    assert not filled.weigh("iris", experiment(700), ANA).is_changed
    assert None is filled.weigh("iris", None, ANA).after
    told = filled.experiment("iris")
    assert (False, "fees", 1, ["blue"]) == (
        told.is_running,
        told.experiment.id,
        told.champion,
        [arm.name for arm in told.arms],
    )
    assert ["weighed"] * 3 == [event.kind for event in filled.history("iris").events][-3:]
    with pytest.raises(Unknown, match="no version 9 of 'iris'"):
        filled.weigh("iris", Experiment(id="x", arms=(Arm(name="a", version=9),)), ANA)


def experiment(weight: int) -> Experiment:
    """One arm beside the champion."""
    return Experiment(id="fees", arms=(Arm(name="blue", version=2, weight=weight),))


def test_apply(filled: Operations) -> None:
    """A declared state is shown, made so, and then there is nothing left to do."""
    declared = "models: {iris: {aliases: {champion: latest}, lazy: true}}"
    dry = filled.apply(declared, ANA, is_dry=True)
    assert (True, 2) == (dry.is_dry, len(dry.differences))
    assert {"champion": 1, "candidate": 2} == filled.model("iris").aliases
    done = filled.apply(declared, because("as declared"))
    assert [one.what for one in dry.differences] == [one.what for one in done.differences]
    assert 2 == filled.model("iris").aliases["champion"]
    assert [] == filled.apply(declared, ANA).differences


def test_garbage(filled: Operations, second: Path) -> None:
    """What nothing refers to goes when it is named, and what is used does not."""
    filled.move("iris", "candidate", None, ANA)
    filled.remove("iris", 2, because("not wanted"))
    assert [1] == [version.number for version in filled.model("iris").versions]
    told = filled.collect_garbage(ANA, is_dry=True)
    assert told.is_dry
    assert 3 == filled.publish(second, ANA).version


def test_back_up(filled: Operations, tmp_path: Path) -> None:
    """A backup appears under its name, and can be restored; where there is something, it is refused."""
    filled.back_up(tmp_path / "copies" / "first")
    again = settings_of(tmp_path / "again")
    restore(tmp_path / "copies" / "first", again)
    with plane_of(again) as restored:
        assert filled.history("iris").events == restored.operations.history("iris").events
    assert ["first"] == [path.name for path in (tmp_path / "copies").iterdir()]
    with pytest.raises(ControlError):
        filled.back_up(tmp_path / "copies" / "first")
    transit = tmp_path / "home" / "transit"
    wait_for(lambda: not list(transit.glob("*")), "nothing is left of it on the way")


def refusals(
    operations: Operations, bundles: dict[str, Path], out: Path
) -> Iterator[tuple[type[PenstockError], object]]:
    """What goes wrong, and as what."""
    torn = out / "torn"
    torn.mkdir(parents=True)
    for path in bundles["iris"].iterdir():
        (torn / path.name).write_bytes(path.read_bytes())
    (torn / "golden.json").write_bytes(b"{}")
    stale = msgspec.structs.replace(ANA, if_revision=1)
    yield Unknown, lambda: operations.model("nobody")
    yield Unknown, lambda: operations.history("..")
    yield Unknown, lambda: operations.model("a/b?c#d")
    yield Unknown, lambda: operations.rollback("iris", ANA)
    yield Unknown, lambda: operations.move("iris", "champion", 9, ANA)
    yield Unknown, lambda: operations.move("iris", "no alias", 1, ANA)
    yield Unknown, lambda: operations.remove("iris", 9, ANA)
    yield Conflict, lambda: operations.move("iris", "champion", 2, stale)
    yield Conflict, lambda: operations.remove("iris", 2, stale)
    yield InUse, lambda: operations.remove("iris", 1, ANA)
    yield InUse, lambda: operations.move("iris", "champion", None, ANA)
    yield BundleRefused, lambda: operations.publish(torn, ANA)
    yield SettingsError, lambda: operations.apply("models: [", ANA)
    yield SettingsError, lambda: operations.apply("modells: {}", ANA)


def test_refusals(filled: Operations, bundles: dict[str, Path], tmp_path: Path) -> None:
    """Whatever is refused raises the error of its kind, with a message, and changes nothing."""
    before = filled.model("iris")
    for kind, ask in refusals(filled, bundles, tmp_path):
        with pytest.raises(PenstockError) as caught:
            ask()  # type: ignore[operator]
        assert kind is type(caught.value), str(caught.value)
        assert str(caught.value)
    assert before == filled.model("iris")


def test_a_rule_refuses_and_is_overruled(filled: Operations) -> None:
    """What speaks against a move is told reason by reason; force with a reason overrules it, and that is kept."""
    filled.apply(RULE, ANA)
    with pytest.raises(MoveRefused) as caught:
        filled.move("iris", "champion", 2, ANA)
    assert caught.value.may_force
    assert 1 == len(caught.value.reasons)
    assert caught.value.reasons[0] in str(caught.value)
    moved = filled.move("iris", "champion", 2, because("we know", force=True))
    assert caught.value.reasons == moved.overruled
