"""Rollouts judged by what the log says, without a server: from where on, beside broken ones, and after their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.audit import Record
from penstock.audit.readers import Readers, reader_name
from penstock.controller.assemble import Plane
from penstock.controller.judging import path_of
from penstock.controller.rollouts import Rollouts
from penstock.controller.stages import StagesHere
from penstock.errors import InUse
from penstock.rollout.declared import Plan
from planes import ANA, plane_of, settings_of
from records import answered, write
from variants import variant

PLAN = Plan(steps=(25.0,), step_s=600.0, replay=None, shadow=None)
LONG = "m" * 64
WEIGHTS = {"champion": 7500, "canary": 2500}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of the plane."""
    return tmp_path / "home"


@pytest.fixture
def plane(bundles: dict[str, Path], home: Path) -> Iterator[Plane]:
    """Two versions each of two models, one of which has the longest name that there may be."""
    (home / "audit").mkdir(parents=True)
    with plane_of(settings_of(home)) as made:
        for name in ("amount", LONG):
            for without in range(2):
                made.operations.publish(variant(bundles["amount"], home.parent / "out", without, name=name), ANA)
        yield made


def started(plane: Plane, model: str) -> str:
    """The id of a rollout of version 2 that has begun."""
    return plane.operations.start_rollout(model, 2, PLAN, ANA).rollout.id


def calls(rollout: str, model: str) -> list[Record]:
    """Eight calls, every fourth one the canary's."""
    return [
        answered(
            number,
            model=model,
            experiment=rollout,
            arm="champion" if number % 4 else "canary",
            version=1 if number % 4 else 2,
            weights=WEIGHTS,
            key=None,
        )
        for number in range(8)
    ]


def look_until(rollouts: Rollouts, holds: Callable[[], bool]) -> None:
    """Look again until it holds: what the log's directories have is believed for a moment."""
    until_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until_s
        rollouts.look()


def canary_n(rollouts: Rollouts, model: str) -> int:
    """How many requests of the canary are known."""
    known = rollouts.known(model)
    return 0 if known is None else known[0].canary_n


def test_it_counts_from_its_start(plane: Plane, home: Path) -> None:
    """What the canary answered before anybody looked for the first time counts; what came before does not."""
    write(home / "audit", calls("earlier", LONG))
    rollout = started(plane, LONG)
    write(home / "audit", calls(rollout, LONG), worker=1)
    look_until(plane.rollouts, lambda: 2 == canary_n(plane.rollouts, LONG))
    assert [reader_name("rollout", rollout)] == Readers(home / "audit").names


def test_broken_evidence_stops_no_other(plane: Plane, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One whose file is not ours stands still, which is said once; the other goes on; an operator can abort it."""
    broken, other = started(plane, "amount"), started(plane, LONG)
    path_of(home, broken).parent.mkdir()
    path_of(home, broken).write_bytes(b"{}")
    write(home / "audit", calls(other, LONG))
    look_until(plane.rollouts, lambda: 2 == canary_n(plane.rollouts, LONG))
    said = [one for one in caplog.messages if one.startswith("the rollout of amount stands still: ")]
    assert 1 == len(said), caplog.messages
    action = plane.operations.rollout("amount").action
    assert action is not None and ("hold", "unreadable") == (action.verdict, action.why[0].code)
    by = msgspec.structs.replace(ANA, reason="its file is broken")
    assert "aborted" == plane.operations.tell_rollout("amount", "abort", by).rollout.status


def test_an_end_that_another_controller_saw(plane: Plane, home: Path) -> None:
    """Whoever comes after one that died at the end writes the report, and lets go of the log."""
    rollout = started(plane, "amount")
    plane.rollouts.look()
    with pytest.raises(InUse):
        started(plane, "amount")
    plane.operations.tell_rollout("amount", "abort", msgspec.structs.replace(ANA, reason="enough"))
    stages = StagesHere(home, plane.repository, settings_of(home))
    assert [reader_name("rollout", rollout)] == Readers(home / "audit").names
    node = plane.control.state().model("amount").rollout
    assert node is not None
    Rollouts(plane.control, plane.convergence, stages, home=home, node=node.node).look()
    assert [] == Readers(home / "audit").names
    assert "enough" in path_of(home, rollout).with_suffix(".html").read_text()
