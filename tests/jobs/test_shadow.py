"""A shadow pairs what the champion has answered with what it would have said, each once, whatever kills it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from shadowing import Champion, Killed, caught_up, killing, let_go, shadow_of, shadowed, shadows_in

from penstock.audit import Recovered, recover, verify
from penstock.audit.readers import Readers, reader_name
from penstock.bundle.outputs import Outputs
from penstock.errors import ModelFailed
from penstock.jobs import shadow as shadow_module
from penstock.jobs.recorded import Asked
from penstock.jobs.scoring import Scoring
from penstock.jobs.shadow import Shadow
from penstock.jobs.shadow_log import ShadowLog
from penstock.jobs.shadow_state import read_state
from penstock.runtime import Model
from penstock.runtime.model import open_model
from penstock.schema import Columns
from rows import IRIS_ROW

BAD = 7.75


@pytest.fixture(scope="module")
def iris(bundles: dict[str, Path]) -> Model:
    return open_model(bundles["iris"])


class Picky:
    """As another predictor, but for rows with a certain sepal length, on which it fails; counts its runs by size."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.runs: list[int] = []

    def run(self, columns: Columns) -> Outputs:
        """Outputs, or ModelFailed."""
        self.runs.append(len(columns["sepal_length"]))
        if (np.asarray(columns["sepal_length"]) == BAD).any():
            raise ModelFailed("I do not like it")
        return self._model.run(columns)


def picky(model: Model) -> tuple[Model, Picky]:
    """The same model with a dislike."""
    predictor = Picky(model)
    made = Model(model.bundle, version=2, predictor=predictor, check=model.check)
    predictor.runs.clear()  # those that measure it
    return made, predictor


def flowers(many: int, *bad: int) -> list[list[dict[str, Any]]]:
    """Calls of one row each; those at `bad` are not liked."""
    return [[{**IRIS_ROW, "sepal_length": BAD if n in bad else 4.0 + n / 100}] for n in range(many)]


def begun(home: Path, model: Model) -> Champion:
    """A champion with nothing answered yet, whose shadow has begun, and was stopped."""
    champion = Champion(home, model)
    shadow_of(home, model).close()
    return champion


def test_the_same_version_says_the_same(iris: Model, tmp_path: Path) -> None:
    """Each call has a record of the shadow with its request id and the same answer, and no pair differs."""
    champion = begun(tmp_path, iris)
    ids = champion.answer(*flowers(5)) + champion.answer([dict(IRIS_ROW)] * 3)
    shadow = caught_up(shadow_of(tmp_path, iris))
    shadow.close()
    found = shadows_in(tmp_path)
    assert ids == [record.request_id for record in found]
    assert {("shadow", "iris", 2, iris.digest, "ok")} == {
        (record.kind, record.model, record.version, record.digest, record.code) for record in found
    }
    assert [1, 1, 1, 1, 1, 3] == [record.rows for record in found]
    assert [5, 5, 5, 5, 5, 3] == [record.batch_rows for record in found]
    said = [msgspec.to_builtins(one) for one in iris.predict([row for call in flowers(5) for row in call])]
    assert said == [record.outputs[0] for record in found[:5]]
    state = read_state(tmp_path, "iris", 2)
    assert state is not None
    assert (8, 0, 0, 0, 0) == (state.pairs, state.flips, state.errors, state.unscorable, state.skipped)
    assert {5: 1, 3: 1} == {rows: one.count for rows, (one, _) in timed_of(state.comparison).items()}
    assert [] == [path for path in tmp_path.glob("audit/worker-*/*.jsonl") if not verify(path).is_intact]


def timed_of(comparison: Any) -> dict[int, Any]:
    """The timed runs by rows, of which the comparison keeps the next power of two."""
    return {{8: 5, 4: 3}[rows]: one for rows, one in comparison.timed.items()}


def test_what_is_not_the_champions_is_left_alone(iris: Model, tmp_path: Path) -> None:
    """Other versions, other models, refusals, calls from before the alias and what is not kept make no pairs."""
    champion = begun(tmp_path, iris)
    champion.answer(*flowers(2), version=3)
    champion.answer(*flowers(2), kind="failure", code="model_failed")
    champion.answer(*flowers(2), at=datetime(2025, 1, 1, tzinfo=UTC))
    champion.answer(*flowers(2), input=None)
    champion.answer(*flowers(2), outputs=None)
    kept = champion.answer(*flowers(1))
    shadow = caught_up(shadow_of(tmp_path, iris))
    shadow.close()
    assert kept == [record.request_id for record in shadows_in(tmp_path)]
    assert (1, 4) == (shadow.state.pairs, shadow.state.unscorable)


def test_a_row_on_which_it_fails_is_an_error_of_that_call_only(iris: Model, tmp_path: Path) -> None:
    """Every tenth row fails: its call has a record that says so, and the others of the same run their answers."""
    model, _ = picky(iris)
    champion = begun(tmp_path, iris)
    ids = champion.answer(*flowers(30, 0, 10, 20))
    shadow = caught_up(shadow_of(tmp_path, model))
    shadow.close()
    codes = [(record.request_id, record.code) for record in shadows_in(tmp_path)]
    assert [(one, "model_failed" if n % 10 == 0 else "ok") for n, one in enumerate(ids)] == codes
    assert (27, 3, "I do not like it") == (shadow.state.pairs, shadow.state.errors, shadow.state.last_failure)


def test_it_goes_on_where_it_was(iris: Model, tmp_path: Path) -> None:
    """Stopped and begun again it counts what came since, and its registered place lets segments go."""
    champion = begun(tmp_path, iris)
    for lives in range(1, 4):
        champion.answer(*flowers(4))
        shadow = caught_up(shadow_of(tmp_path, iris))
        shadow.close()
        assert (4 * lives, 4 * lives) == (shadow.state.pairs, len(shadows_in(tmp_path)))
    readers = Readers(tmp_path / "audit")
    assert [reader_name("shadow", "iris-2")] == readers.names
    segments = [path.relative_to(tmp_path / "audit") for path in (tmp_path / "audit").glob("worker-*/*.jsonl")]
    assert {True} == {readers.has_passed(str(segment)) for segment in segments}


def test_another_champion_begins_anew(iris: Model, tmp_path: Path) -> None:
    """Pairs with the champion before say nothing of the one now; the place in the log stays."""
    champion = begun(tmp_path, iris)
    champion.answer(*flowers(4))
    caught_up(shadow_of(tmp_path, iris)).close()
    champion.answer(*flowers(3), version=5)
    shadow = caught_up(shadow_of(tmp_path, iris, shadowed(iris, champion=5)))
    shadow.close()
    assert (3, 5) == (shadow.state.pairs, shadow.state.of.champion)


def test_too_far_behind_it_skips(iris: Model, tmp_path: Path) -> None:
    """What is older than the bound is passed unread and counted; it goes on with what comes then."""
    champion = begun(tmp_path, iris)
    old = datetime.now(UTC) - timedelta(seconds=90)
    champion.answer(*flowers(7), at=old)
    shadow = caught_up(shadow_of(tmp_path, iris))
    assert (0, 7) == (shadow.state.pairs, shadow.state.skipped)
    champion.answer(*flowers(2))
    caught_up(shadow).close()
    assert (2, 7) == (shadow.state.pairs, shadow.state.skipped)


class Steps:
    """Kills at a step: the one with number `at` of all that have an effect that outlives a process."""

    def __init__(self, at: int) -> None:
        self._at, self._numbers = at, count()
        self.taken = 0

    def __call__(self) -> bool:
        self.taken = next(self._numbers)
        return self.taken == self._at


def one_life(home: Path, model: Model, patch: pytest.MonkeyPatch, may: Steps) -> bool:
    """A life of a shadow until it has read all, or is killed; whether it was."""
    with patch.context() as effects:
        for owner, name in ((shadow_module, "write_state"), (ShadowLog, "flush"), (Readers, "save")):
            effects.setattr(owner, name, killing(getattr(owner, name), may))
        for name in ("begin", "end"):
            owner = shadow_module.Attempt
            effects.setattr(owner, name, killing(getattr(owner, name), may))
        made: list[Shadow] = []
        try:
            log = ShadowLog(home / "audit")
            log.open()
            scoring = Scoring(model, Asked(model=model.name))
            made.append(Shadow(home, shadowed(model), scoring, log, max_lag_s=60.0))
            caught_up(made[0]).save()
        except Killed:
            os.close(log._run.segment._fd)
            return True
        let_go(made[0])
        return False


def test_each_pair_is_written_and_counted_once_whichever_step_it_dies_at(
    iris: Model, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before and after every effect that outlives it, and once more in the life after that."""
    monkeypatch.setattr(shadow_module, "_FLUSH_S", 0.0)
    monkeypatch.setattr(shadow_module, "_SAVE_S", 0.0)
    steps = count()
    for at in steps:
        home = tmp_path_factory.mktemp("home")
        champion = begun(home, iris)
        ids = [one for _ in range(3) for one in champion.answer(*flowers(2))]
        was_killed = one_life(home, iris, monkeypatch, Steps(at))
        one_life(home, iris, monkeypatch, Steps(at // 2 + 5))
        while one_life(home, iris, monkeypatch, Steps(10**9)):
            pass
        written = Counter(record.request_id for record in shadows_in(home))
        state = read_state(home, "iris", 2)
        assert state is not None
        assert (dict.fromkeys(ids, 1), 6, at) == (dict(written), state.pairs + state.crashed, at)
        if not was_killed:
            break
    assert next(steps) > 20


def deadly(home: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Lives of a shadow that dies over rows that it does not like, as by a crash; the sizes of the runs of each."""
    predictor = picky(model)[1]

    def run(columns: Columns) -> Outputs:
        try:
            return predictor.run(columns)
        except ModelFailed as error:
            raise Killed from error

    predictor_like = type("Deadly", (), {"run": staticmethod(run)})()
    dying = Model(model.bundle, version=2, predictor=predictor_like, check=model.check)
    predictor.runs.clear()
    while one_life(home, dying, monkeypatch, Steps(10**9)):
        yield predictor.runs
        predictor.runs.clear()


def test_after_two_deaths_it_goes_row_by_row_and_passes_the_one(
    iris: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash over a run of calls costs two deaths, and one more for the call that it was; the others are paired."""
    champion = begun(tmp_path, iris)
    ids = champion.answer(*flowers(4, 2)) + champion.answer(*flowers(1, 0)) + champion.answer(*flowers(2))
    lives = [list(runs) for runs in deadly(tmp_path, iris, monkeypatch)]
    assert [[4], [4], [1, 1, 1], [1, 1, 1, 1]] == [life[:4] for life in lives[:4]]
    found = {record.request_id: record.code for record in shadows_in(tmp_path)}
    assert {one: "shadow_crashed" if n in (2, 4) else "ok" for n, one in enumerate(ids)} == found
    assert len(ids) == len(shadows_in(tmp_path))
    state = read_state(tmp_path, "iris", 2)
    assert state is not None
    assert (5, 2, 2, ()) == (state.pairs, state.crashed, state.errors, state.suspects.spots)


def test_its_segments_are_recovered_as_a_workers(iris: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torn tail is cut by whoever starts next, and the calls are scored again."""
    monkeypatch.setattr(shadow_module, "_SAVE_S", 1e18)
    champion = begun(tmp_path, iris)
    champion.answer(*flowers(2))
    shadow = caught_up(shadow_of(tmp_path, iris))
    path = shadow._log._run.segment.path
    let_go(shadow)
    path.write_bytes(path.read_bytes()[:-40])
    assert [path] == [found.path for found in recover(tmp_path / "audit") if isinstance(found, Recovered)]
    shadow = caught_up(shadow_of(tmp_path, iris))
    shadow.close()
    assert (2, 2) == (shadow.state.pairs, len(shadows_in(tmp_path)))
