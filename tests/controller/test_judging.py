"""A rollout under judgement: what the log says of it counts once, however often whoever reads it dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.audit import FellBack, Record
from penstock.audit.follow import Follower
from penstock.control.answers import Judged
from penstock.control.changes import Who
from penstock.control.rollouts import RolloutState
from penstock.controller.judging import Judging, path_of
from penstock.jobs.observing import Observer, loss_of, observation_of, score_of
from penstock.rollout.declared import Plan
from penstock.rollout.evidence import Evidence
from penstock.rollout.guardrails import Watched
from records import AT, answered, write

ID = "churn-2-7"
WEIGHTS = {"champion": 7500, "canary": 2500}


def rollout(**watched: Any) -> RolloutState:
    """A rollout of version 2 at its first step."""
    plan = Plan(steps=(25,), replay=None, shadow=None, watch=Watched(**watched))
    return RolloutState(
        id=ID, version=2, digest="d", champion=1, plan=plan, stage="step", step=0, started=AT, since=AT,
        who=Who("ana"), node="",
    )  # fmt: skip


def judging(home: Path, of: RolloutState, follower: Follower, *clock: Callable[[], float]) -> Judging:
    """The rollout under judgement in a home."""
    return Judging(path_of(home, of.id), Observer(of.id, Evidence.of(of.plan.watch)), follower, *clock)


def arm(number: int, name: str | None = None, **changes: Any) -> Record:
    """The `number`th call: every fourth one is the canary's."""
    name = name or ("champion" if number % 4 else "canary")
    given = {"experiment": ID, "arm": name, "bucket": number, "weights": WEIGHTS, "key": f"hmac:{number * 7919:032x}"}
    return answered(number, version=1 if name == "champion" else 2, **{**given, **changes})


def calls(count: int) -> Iterator[Record]:
    """Calls of which every tenth fails, and some that are not of the rollout."""
    for number in range(count):
        yield arm(number, kind="failure", code="model_failed", outputs=None) if number % 10 == 0 else arm(number)
        yield answered(10_000 + number, model="other")
        yield arm(20_000 + number, experiment="churn-2-1")


def bare(judged: Judged) -> Judged:
    """Without what depends on when it was looked at."""
    return msgspec.structs.replace(judged, samples=())


def before(home: Path) -> None:
    """The evidence begins before everything that is written after this."""
    judging(home, rollout(), Follower(home / "audit")).save()


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_dying_changes_no_number(tmp_path: Path, parts: int) -> None:
    """Read at once, or by several that die at any moment and lose what they had not saved: the numbers are the same."""
    (tmp_path / "audit").mkdir()
    before(tmp_path)
    records = list(calls(420))
    size = len(records) // parts
    for part in range(parts):
        end = None if part == parts - 1 else (part + 1) * size
        write(tmp_path / "audit", records[part * size : end])
        doomed = judging(tmp_path, rollout(), Follower(tmp_path / "audit"))
        doomed.look()  # dies with what it has read, saved or not
        if part % 2:
            doomed.save()
    judged = bare(judging(tmp_path, rollout(), Follower(tmp_path / "audit")).look())
    assert (105, 315) == (judged.canary_n, judged.champion_n)
    [errors] = [one for one in judged.readings if one.name == "error"]
    failed = [number for number in range(420) if number % 10 == 0]
    canary = [number for number in failed if number % 4 == 0]
    assert (len(canary), len(failed) - len(canary)) == (errors.canary_events, errors.champion_events)
    assert 0 == judged.lag.records


def test_another_evidence_is_refused(tmp_path: Path) -> None:
    """A file that is not ours is not overwritten."""
    path = path_of(tmp_path, ID)
    path.parent.mkdir()
    path.write_bytes(b"{}")
    with pytest.raises(ValueError, match="expected the evidence of a rollout"):
        judging(tmp_path, rollout(), Follower(tmp_path / "audit"))
    assert b"{}" == path.read_bytes()


def test_labels_count_when_they_are_mature(tmp_path: Path) -> None:
    """Both arms at the same age; a label that came too late, or not at all, is none."""
    (tmp_path / "audit").mkdir()
    now = [AT.timestamp()]
    watched = rollout(label_delay_s=100.0)
    under_way = judging(tmp_path, watched, Follower(tmp_path / "audit", fresh_s=0.0), lambda: now[0])
    said = {0: "yes", 1: "no", 4: "no"}
    labels = [
        Record(kind="feedback", request_id=arm(number).request_id, at=AT + timedelta(seconds=50), model="churn",
               input=[{"index": 0, "actual": actual}])
        for number, actual in said.items()
    ]  # fmt: skip
    late = Record(
        kind="feedback", request_id=arm(2).request_id, at=AT + timedelta(seconds=500), model="churn",
        input=[{"index": 0, "actual": "no"}],
    )  # fmt: skip
    write(tmp_path / "audit", [*(arm(number) for number in range(8)), *labels, late])
    assert 8 == under_way.look().waiting
    now[0] += 200
    judged = under_way.look()
    assert 0 == judged.waiting
    [loss] = [one for one in judged.readings if one.name == "label_loss"]
    assert (2, 6) == (loss.canary_n, loss.champion_n)
    assert (1, 1) == (loss.canary_events, loss.champion_events)  # of "no", by the answer "yes" with 0.75


def test_what_a_record_says_of_its_arm() -> None:
    """A refusal says nothing; a failure, a fallback and a missed deadline are events; a caller's hash is the key's."""
    assert None is observation_of(arm(1, kind="refusal", code="schema_violation"), "w")
    failed = observation_of(arm(1, kind="failure", code="model_failed"), "w")
    late = observation_of(arm(1, kind="failure", code="deadline_exceeded"), "w")
    covered = observation_of(arm(0, fallback=FellBack("version", "model_failed", 2)), "w")
    plain = observation_of(arm(1), "w")
    assert failed is not None and late is not None and covered is not None and plain is not None
    told = [(one.is_error, one.missed_deadline, one.fallback) for one in (failed, late, covered, plain)]
    assert [(True, False, False), (False, True, False), (True, False, True), (False, False, False)] == told
    assert (0.25, 0.75, "hash", 0.75) == (plain.weight, plain.champion_weight, plain.placed_by, plain.score)
    other = observation_of(arm(1, key="ana"), "w")
    assert other is not None and other.key_hash != plain.key_hash
    chosen = observation_of(arm(1, placed_by="rule"), "w")
    assert chosen is not None and "rule" == chosen.placed_by


def test_scores_and_losses() -> None:
    """The number of an answer, and how wrong it was; None where they cannot be compared."""
    two = {"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}}
    assert (0.75, 3.5, None, None) == (score_of(two), score_of({"value": 3.5}), score_of({"label": 1}), score_of(None))
    assert (0.25, 0.75, None) == (loss_of(two, "yes"), loss_of(two, "no"), loss_of(two, "other"))
    one = {"label": 1, "probabilities": {"0": 0.4, "1": 0.6}}
    assert 0.4 == pytest.approx(loss_of(one, 1))
    assert (1.5, 0.0, 1.0) == (loss_of({"value": 2.0}, 3.5), loss_of({"label": "a"}, "a"), loss_of({"label": "a"}, "b"))
