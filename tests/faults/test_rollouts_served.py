"""Rollouts on real processes with real data: what is as good is promoted, what is worse in some way is found.

`make soak-rollouts` runs every kind, with the numbers of issue 9; `make test` two, smaller.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import erring
import msgspec
import pytest
from bank import NAME, TRUSTED, Bank, bank_in

from governed import ADA, Governed, governed
from loads import ask, wait_for
from penstock.control.answers import RolloutAnswer
from penstock.control.changes import Rolled
from penstock.rollout.declared import Plan
from penstock.rollout.guardrails import Watched
from running import request
from variants import variant

IS_WHOLE = "PENSTOCK_TEST_ROLLOUTS" in os.environ
RUNS = int(os.environ.get("PENSTOCK_TEST_ROLLOUTS", "1"))
REQUESTS = 20_000 if IS_WHOLE else 6_000
RATE = 1_000  # a second
CALLERS = 8
MATURITY_S = 3.0
STEPS = (5.0, 25.0, 50.0, 100.0) if IS_WHOLE else (25.0, 100.0)
PLAN = Plan(steps=STEPS, step_s=1.0, replay=None, shadow=None)
long = pytest.mark.skipif(not IS_WHOLE, reason="long: `make soak-rollouts` runs it")


class Callers:
    """Ask rows one after the other, about a thousand a second, each with a key of its own, until `REQUESTS` are asked
    or the block is left; a label for each answer follows where `has_labels`.
    """

    def __init__(self, serving: Governed, data: Bank, *, has_labels: bool = False) -> None:
        self.statuses: Counter[int] = Counter()
        self.lost: list[str] = []
        self._port = serving.server.port
        self._calls: Iterator[tuple[bytes, str]] = iter(
            (call_of(number, row), actual)
            for number, (row, actual) in enumerate(zip(data.rows[:REQUESTS], data.actuals[:REQUESTS], strict=True))
        )
        self._has_labels = has_labels
        self._labels: list[dict[str, str]] = []
        self._is_over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join(60.0)

    async def _all(self) -> None:
        await asyncio.gather(*(self._call(place) for place in range(CALLERS)))

    async def _call(self, place: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        try:
            while not self._is_over and (call := next(self._calls, None)) is not None:
                due_s += CALLERS / RATE
                await asyncio.sleep(max(0.0, due_s - loop.time()))
                told = await ask(reader, writer, call[0])
                self.statuses[told.status] += 1
                if told.is_last:  # a worker leaves, in order
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                if self._has_labels and told.status == 200:
                    self._labels.append({"request_id": msgspec.json.decode(told.body)["request_id"], "actual": call[1]})
                if len(self._labels) >= 50:
                    said, self._labels = self._labels, []
                    answer = await ask(reader, writer, request("/v1/feedback", msgspec.json.encode(said)))
                    self.statuses[answer.status] += answer.status != 200
        except (OSError, asyncio.IncompleteReadError) as error:
            self.lost.append(repr(error))
        finally:
            writer.close()


def call_of(number: int, row: dict[str, object]) -> bytes:
    """One call by a caller of its own."""
    body = msgspec.json.encode({"instances": [row], "key": f"customer-{number}"})
    return request(f"/v1/models/{NAME}/predict", body)


def say(text: str) -> None:
    """A line of figures, which `pytest -s` shows."""
    sys.stdout.write(f"\n{text}\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """The champion, and what makes others."""
    return bank_in(tmp_path_factory.mktemp("versions"))


@pytest.fixture
def serving(data: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Governed]:
    """A server of two workers whose champion is the first version."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(erring.__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    # What is slow here is the machine: no call is to miss its deadline.
    with governed(tmp_path / "home", sklearn__trusted=TRUSTED, server__deadline_ms=30_000) as started:
        started.publish(data.champion)
        wait_for(lambda: 1 == started.served(NAME), "version 1 to be served")
        yield started


def rolled_out(serving: Governed, callers: Callers, version: Path, plan: Plan = PLAN) -> RolloutAnswer:
    """The rollout of a version, once it has ended or an alarm holds it; under load from its first weights on."""
    number = serving.publish(version)
    serving.operations.start_rollout(NAME, number, plan, ADA)

    def has_ended() -> bool:
        now = serving.operations.rollout(NAME).rollout
        return not now.is_running or bool({*now.held} - {"no_evidence"})

    with callers, contextlib.suppress(AssertionError):  # what is still under way then is told by the test
        wait_for(has_ended, "the end of the rollout", REQUESTS / RATE * 10)
    return serving.operations.rollout(NAME)


def canary_n(answer: RolloutAnswer) -> int:
    """How many requests of the canary the last decision was made of."""
    [n] = [one.canary_n for one in answer.rollout.readings if one.name == "error"]
    return n


@pytest.mark.parametrize("run", range(RUNS))
def test_an_identical_version_is_promoted(serving: Governed, data: Bank, tmp_path: Path, run: int) -> None:
    """It becomes champion within the requests, and not one fails because of a transition."""
    callers = Callers(serving, data)
    version = variant(data.champion, tmp_path / "identical", without=1)
    answer = rolled_out(serving, callers, version)
    assert "promoted" == answer.rollout.status, answer
    say(f"identical: {answer.rollout.status}, {canary_n(answer)} canary requests, {dict(callers.statuses)}")
    assert 2 == serving.model(NAME).aliases["champion"]
    assert ({200}, []) == (set(callers.statuses), callers.lost)
    stages = [
        event.change.what for event in serving.operations.history(NAME).events if isinstance(event.change, Rolled)
    ]
    assert ["start", *["advance"] * (len(STEPS) - 1), "promote"] == stages


def test_one_that_errs_is_rolled_back(serving: Governed, data: Bank) -> None:
    """Errors in 5 % of its requests abort it within 100 of them, and the champion answers on."""
    callers = Callers(serving, data)
    answer = rolled_out(serving, callers, data.version("erring"))
    assert "aborted" == answer.rollout.status, answer
    say(f"erring: {answer.rollout.status}, {canary_n(answer)} canary requests, {dict(callers.statuses)}")
    assert ["error"] == [one.code for one in answer.rollout.why]
    assert 1 == serving.model(NAME).aliases["champion"]
    assert [] == callers.lost
    assert canary_n(answer) <= 100 or not IS_WHOLE


@long
def test_a_better_one_is_promoted(serving: Governed, data: Bank) -> None:
    """Its scores are declared to move; nothing else speaks against it."""
    callers = Callers(serving, data)
    plan = msgspec.structs.replace(PLAN, watch=Watched(is_recalibrated=True))
    answer = rolled_out(serving, callers, data.version("better"), plan)
    assert "promoted" == answer.rollout.status, answer
    say(f"better: {answer.rollout.status}, {canary_n(answer)} canary requests, {dict(callers.statuses)}")
    assert ({200}, []) == (set(callers.statuses), callers.lost)


@long
@pytest.mark.parametrize(("kind", "within"), [("slow", 400), ("shifted", 1_500)])
def test_what_is_slow_or_mis_scaled_is_held(serving: Governed, data: Bank, kind: str, within: int) -> None:
    """A model of five times the run time, and a column in other units: held within so many of its requests."""
    callers = Callers(serving, data)
    plan = msgspec.structs.replace(PLAN, watch=Watched(is_recalibrated=kind == "slow"))
    answer = rolled_out(serving, callers, data.version(kind), plan)
    assert answer.rollout.held, answer
    say(f"{kind}: {answer.rollout.held}, {canary_n(answer)} canary requests, {dict(callers.statuses)}")
    assert answer.rollout.held[0].startswith("slow" if kind == "slow" else "score_decile")
    assert canary_n(answer) <= within
    assert ({200}, []) == (set(callers.statuses), callers.lost)


@long
def test_one_that_loses_on_labels_is_held(serving: Governed, data: Bank) -> None:
    """Labels come at once and count when they are mature; found within the maturity and 3,000 requests."""
    callers = Callers(serving, data, has_labels=True)
    watch = Watched(is_recalibrated=True, label_delay_s=MATURITY_S)
    plan = msgspec.structs.replace(PLAN, watch=watch)
    answer = rolled_out(serving, callers, data.version("worse"), plan)
    [loss] = [one for one in answer.rollout.readings if one.name == "label_loss"]
    assert ("label_loss",) == answer.rollout.held, answer
    say(f"worse: {answer.rollout.held}, {loss.canary_n} mature of {canary_n(answer)}, {dict(callers.statuses)}")
    assert loss.canary_n <= 3_000
    assert ({200}, []) == (set(callers.statuses), callers.lost)
