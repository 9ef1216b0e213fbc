"""Rollouts on a real server: without traffic, held and ended by persons, how fast an abort is, two at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from governed import ADA, Governed, governed
from loads import wait_for
from penstock.control.answers import RolloutAnswer
from penstock.control.changes import Event, Rolled
from penstock.errors import ControlError, InUse, Unknown
from penstock.rollout.declared import Plan
from strangers import MODEL, Strangers
from variants import variant

_LOG = logging.getLogger(__name__)
PLAN = Plan(steps=(50.0, 100.0), step_s=0.3, replay=None, shadow=None)
LONG = msgspec.structs.replace(PLAN, step_s=600.0)
FORCED = msgspec.structs.replace(ADA, reason="again", is_forced=True)


@pytest.fixture(scope="module")
def serving(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """Two workers that serve `amount`, and three versions of it that answer alike."""
    out = tmp_path_factory.mktemp("versions")
    with governed(tmp_path_factory.mktemp("serving") / "home", audit__durability="write") as made:
        for without in range(3):
            made.publish(variant(bundles["amount"], out, without))
        wait_for(lambda: 1 == made.served(MODEL), "the champion")
        yield made


def told(serving: Governed, verb: str, reason: str = "because") -> RolloutAnswer:
    """What `penstock rollout VERB` gives."""
    return serving.operations.tell_rollout(MODEL, verb, msgspec.structs.replace(ADA, reason=reason))  # type: ignore[arg-type]


def rolled(serving: Governed, rollout: str) -> list[Event]:
    """The events of a rollout."""
    events = serving.operations.history(MODEL).events
    return [event for event in events if isinstance(event.change, Rolled) and event.change.rollout == rollout]


def test_a_step_without_traffic(serving: Governed) -> None:
    """When its time is over it is held for want of evidence, and stays as it is; with traffic it goes on by itself."""
    id = serving.operations.start_rollout(MODEL, 2, PLAN, ADA).rollout.id
    wait_for(lambda: ("no_evidence",) == serving.operations.rollout(MODEL).rollout.held, "the hold")
    idle = serving.operations.rollout(MODEL)
    assert idle.action is not None and idle.judged is not None
    assert ("hold", 0, 50.0, 0) == (idle.action.verdict, idle.rollout.step, idle.percent, idle.judged.canary_n)
    with Strangers(serving.server, 4) as load:
        wait_for(lambda: not serving.operations.rollout(MODEL).rollout.is_running, "the end")
    whats = [event.change.what for event in rolled(serving, id) if isinstance(event.change, Rolled)]
    assert ["start", "hold", "go_on", "advance", "promote"] == whats
    assert ({200}, [], 2) == (set(load.statuses), load.lost, serving.model(MODEL).aliases["champion"])


def test_an_abort_is_at_once(serving: Governed) -> None:
    """Once the command says that all workers have it, no call that is sent gets the canary; the champion answers."""
    champion = serving.model(MODEL).aliases["champion"]
    id = serving.operations.start_rollout(MODEL, 3, LONG, ADA).rollout.id
    with Strangers(serving.server, 4) as load:
        wait_for(lambda: load.of("canary"), "the canary")
        answer = told(serving, "abort", "wrong data")
        seen = len(load.replies)
        load.wait_for(300)
    assert ([], "aborted", 0.0) == (answer.waits_for, answer.rollout.status, answer.percent)
    assert set() == {reply.arm for reply in load.replies[seen + 4 :]} - {"champion", ""}
    assert ({200}, [], champion) == (set(load.statuses), load.lost, serving.model(MODEL).aliases["champion"])
    took_s = max(reply.at for reply in load.of("canary")) - rolled(serving, id)[-1].at.timestamp()
    _LOG.info("the canary's last answer came %.0f ms after the abort", took_s * 1e3)


def outcome(work: Callable[[], object]) -> object:
    """What it gives, or the error that it raises."""
    try:
        return work()
    except ControlError as error:
        return error


def at_once(*works: Callable[[], object]) -> list[object]:
    """The outcomes of works that begin together."""
    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(outcome, works))


def test_two_operators_start_at_once(serving: Governed) -> None:
    """One rollout begins; the others are told which is under way. Weights that a person sets are refused, too."""
    champion = serving.model(MODEL).aliases["champion"]
    others = [number for number in (1, 2, 3) if number != champion] * 2
    found = at_once(*(lambda n=n: serving.operations.start_rollout(MODEL, n, LONG, FORCED) for n in others))
    [won] = [one for one in found if isinstance(one, RolloutAnswer)]
    lost = [one for one in found if not isinstance(one, RolloutAnswer)]
    said = f"has the rollout {won.rollout.id} of version {won.rollout.version} under way"
    assert [InUse] * 3 == [type(one) for one in lost]
    assert all(said in str(one) for one in lost), lost
    experiment = serving.model(MODEL).experiment
    assert experiment is not None
    assert (won.rollout.id, won.rollout.version, 5000) == (
        experiment.id, experiment.arms[0].version, experiment.arms[0].weight,
    )  # fmt: skip
    with pytest.raises(InUse, match="`penstock rollout abort amount` ends it"):
        serving.operations.weigh(MODEL, None, ADA)
    told(serving, "abort")


@pytest.mark.parametrize("turn", range(2))
def test_two_operators_end_at_once(serving: Governed, turn: int) -> None:
    """Of those who abort and promote at the same time one is obeyed; the others hear how it has ended."""
    champion = serving.model(MODEL).aliases["champion"]
    version = next(number for number in (1, 2, 3) if number != champion)
    id = serving.operations.start_rollout(MODEL, version, LONG, FORCED).rollout.id
    verbs = ["abort", "promote", "abort", "promote"][turn % 2 :]
    found = at_once(*(lambda verb=verb: told(serving, verb, f"I {verb}") for verb in verbs))
    [won] = [verb for verb, one in zip(verbs, found, strict=True) if isinstance(one, RolloutAnswer)]
    ending = {"abort": "aborted", "promote": "promoted"}[won]
    lost = [one for one in found if not isinstance(one, RolloutAnswer)]
    assert [Unknown] * (len(verbs) - 1) == [type(one) for one in lost]
    assert all(
        f"has no rollout under way; the last one, of version {version}, was {ending}" in str(one) for one in lost
    )
    model = serving.model(MODEL)
    assert (None, version if won == "promote" else champion) == (model.experiment, model.aliases["champion"])
    whats = [event.change.what for event in rolled(serving, id) if isinstance(event.change, Rolled)]
    assert ["start", won] == [what for what in whats if what not in ("hold", "go_on")]
    with contextlib.suppress(Unknown):
        told(serving, "hold")
    assert ending == serving.operations.rollout(MODEL).rollout.status
