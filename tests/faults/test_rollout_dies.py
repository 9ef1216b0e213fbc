"""kill -9 of the controller at every step of a rollout: it goes on from its evidence, to the same numbers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_controller_dies import kill_controller

from governed import ADA, Governed, governed
from loads import wait_for
from penstock.audit.follow import Follower
from penstock.audit.readers import Readers
from penstock.control.changes import Rolled
from penstock.control.rollouts import RolloutState
from penstock.control.sql_store import SqlStore
from penstock.control.state import folded
from penstock.controller.judging import Kept, path_of, read_kept
from penstock.controller.lock import ADDRESS_FILE, answering
from penstock.controller.remote import RemoteOperations
from penstock.errors import PenstockError
from penstock.jobs.observing import Observer
from penstock.rollout.declared import Plan, ReplayOptions, ShadowOptions
from penstock.rollout.evidence import Evidence
from strangers import MODEL, Strangers
from variants import variant

DYING = Path(__file__).parent / "dying"
IS_WHOLE = "PENSTOCK_TEST_ROLLOUTS" in os.environ
"""`make soak-rollouts`: every stage, every death. A controller takes seconds to come back, so `make test` has fewer."""

PLAN = Plan(
    steps=(50.0, 100.0),
    step_s=0.5,
    replay=ReplayOptions(rows=200) if IS_WHOLE else None,
    shadow=ShadowOptions(pairs=100) if IS_WHOLE else None,
)
STEPS = ["start-step-0", "advance-step-1", "promote-step-1"]
EVENTS = ["start-replay-0", "advance-shadow-0", "advance-step-0", *STEPS[1:]] if IS_WHOLE else STEPS
PLACES = ["replay-0", "shadow-0", "step-0", "step-1"] if IS_WHOLE else ["step-0"]
ALL = {f"{when}-{event}" for when in ("before", "after") for event in EVENTS}
DEATHS = ALL if IS_WHOLE else {"before-advance-step-1", "after-promote-step-1"}


class Watching:
    """What the database and the files of a home say of its rollout, whether a controller lives or not."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._store = SqlStore(None, home=home)

    @property
    def events(self) -> list[Rolled]:
        """The rollout's events."""
        return [event.change for event in self._store.since(0) if isinstance(event.change, Rolled)]

    @property
    def rollout(self) -> RolloutState | None:
        """How it stands."""
        return folded(self._store.since(0)).models[MODEL].rollout

    @property
    def kept(self) -> Kept:
        """What is kept of it."""
        rollout = self.rollout
        assert rollout is not None
        kept = read_kept(path_of(self.home, rollout.id))
        assert kept is not None
        return kept

    def start(self) -> bool:
        """Ask for the rollout, of whichever controller answers; whether it has begun."""
        there = answering(self.home)
        if self.rollout is None and there is not None:
            with contextlib.suppress(PenstockError), contextlib.closing(RemoteOperations(there.url)) as operations:
                operations.start_rollout(MODEL, 2, PLAN, ADA)
        return self.rollout is not None

    def is_judged(self) -> bool:
        """Whether the controller that answers has looked at the evidence."""
        rollout = self.rollout
        assert rollout is not None
        try:
            evidence = path_of(self.home, rollout.id).stat().st_mtime
            return answering(self.home) is not None and evidence > (self.home / ADDRESS_FILE).stat().st_mtime
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()


@pytest.fixture
def serving(bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Governed]:
    """Two workers whose controllers are mortal, and two versions of one content."""
    monkeypatch.setenv("PYTHONPATH", f"{DYING}:{os.environ.get('PYTHONPATH', '')}")
    with governed(tmp_path / "home", audit__durability="write") as made:
        for path in (bundles["amount"], variant(bundles["amount"], tmp_path, 1)):
            made.publish(path)
        wait_for(lambda: 1 == made.served(MODEL), "the champion")
        yield made


def test_killed_at_every_step(serving: Governed) -> None:
    """Under load its controllers die just before and just after events, and within stages and steps. Each event
    happens once, no request fails, and the evidence is that of somebody who read the log at one go.
    """
    home = serving.home
    deaths = home / "deaths"
    deaths.mkdir()
    for spared in ALL - DEATHS:
        (deaths / spared).touch()
    killed: list[str] = []
    with (
        contextlib.closing(Watching(home)) as watching,
        Strangers(serving.server, 4, breath_s=0.003, spoilt=100) as load,
    ):
        load.wait_for(300)
        wait_for(watching.start, "the start")

        def has_ended() -> bool:
            rollout = watching.rollout
            assert rollout is not None
            place = f"{rollout.stage}-{rollout.step}"
            if rollout.is_running and place in PLACES and place not in killed and watching.is_judged():
                killed.append(place)
                kill_controller(serving.server)
            return not rollout.is_running

        wait_for(has_ended, "the end", 300.0)
        wait_for(lambda: not [name for name in Readers(home / "audit").names if name.startswith("rollout-")], "tidying")
        assert EVENTS == [f"{one.what}-{one.stage}-{one.step}" for one in watching.events]
        assert (ALL, PLACES) == ({path.name for path in deaths.iterdir()}, killed)
        kept = watching.kept
    assert ({200}, []) == (set(load.statuses), load.lost)
    alone = evidence_at_one_go(home, kept)
    assert numbers(alone) == numbers(kept.observer.evidence)
    assert 0 < sum(champion for _, champion in alone.events["refused_output"].every.values())
    assert path_of(home, kept.observer.rollout).with_suffix(".html").exists()
    assert "Traceback" not in serving.server.text


def evidence_at_one_go(home: Path, kept: Kept) -> Evidence:
    """What one who was never interrupted makes of the log, from its beginning to where `kept` goes."""
    observer = Observer(kept.observer.rollout, Evidence.of(PLAN.watch))
    for batch in iter(Follower(home / "audit").reader().read, None):
        mark = kept.position.marks.get(batch.run)
        observer.observe([one for one in batch.records if mark is not None and one.seq <= mark.seq], batch.run)
    return observer.evidence


def numbers(evidence: Evidence) -> tuple[Any, ...]:
    """All of the evidence that does not depend on in which order the records of two workers are read."""
    hard = [one for one in evidence.readings() if one.kind == "hard" or one.name == "fallback"]
    return evidence.arms, evidence.left_out, evidence.requests, evidence.first_requests, hard
