"""Whatever happens in whatever order, a model that was served once is served on, and in the end as the state says."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import BY, Machine

from loads import wait_for
from penstock.control.history import history_of
from penstock.errors import ControlError

VERSIONS = (1, 2, 3)


class Turmoil:
    """A machine and its misfortunes. `served` is its champion, which there is always."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.machine = Machine(home).__enter__()
        self.machine.publish(*(f"churn-{number}" for number in VERSIONS))
        wait_for(lambda: self.machine.serving("churn") == {"champion": 1})

    def deploy(self, number: int) -> None:
        with contextlib.suppress(ControlError):
            self.machine.control.deploy("churn", number, BY)
            self.machine.convergence.wake()

    def roll_back(self, _: int) -> None:
        with contextlib.suppress(ControlError):
            self.machine.control.rollback("churn", BY)
            self.machine.convergence.wake()

    def fail_in_workers(self, number: int) -> None:
        """Workers cannot load a version from now on; what they serve they have loaded."""
        if number != self.served:
            self.machine.failing[f"churn/{number}"] = "no memory"

    def fail_in_trials(self, number: int) -> None:
        self.machine.bundles.failing[f"churn-{number}"] = "golden row 3 differs"

    def mend(self, _: int) -> None:
        self.machine.failing.clear()
        self.machine.bundles.failing.clear()
        self.machine.store.is_away = False
        self.machine.convergence.wake()

    def lose_the_database(self, _: int) -> None:
        self.machine.store.is_away = True

    def restart_workers(self, _: int) -> None:
        self.machine.apply()

    def kill(self, _: int) -> None:
        """The controller is killed, and another one starts; its database is there, or comes back."""
        is_away = self.machine.store.is_away
        before, self.machine = self.machine, Machine(self.home, bundles=self.machine.bundles)
        before.__exit__()
        self.machine.failing = before.failing
        self.machine.store.is_away = is_away
        self.machine.__enter__()

    @property
    def served(self) -> int:
        return self.machine.champions["churn"]

    def _is_asked_again(self, number: int) -> bool:
        """Whether the champion is served; what failed before it was mended is asked for again, once it is known."""
        if self.machine.convergence.unfit("churn", number) is not None:
            self.machine.convergence.try_again("churn", number)
        return self.served == number and self.machine.convergence.unfit("churn", number) is None

    def settle(self) -> None:
        """Everything is mended: the machine serves what the state says."""
        self.mend(0)
        number = self.machine.model("churn").aliases["champion"]
        wait_for(lambda: self._is_asked_again(number), "the champion is served")
        wait_for(lambda: self.machine.serving("churn") == {"champion": number}, "the history says so")
        wait_for(lambda: self.machine.model("churn").version(number).failures == {}, "no failure is left")
        spans = history_of("churn", self.machine.control.events()).served
        assert [span.until for span in spans[:-1]] == [span.since for span in spans[1:]]


MISFORTUNES: tuple[Callable[[Turmoil, int], None], ...] = (
    Turmoil.deploy,
    Turmoil.deploy,
    Turmoil.roll_back,
    Turmoil.fail_in_workers,
    Turmoil.fail_in_trials,
    Turmoil.mend,
    Turmoil.lose_the_database,
    Turmoil.restart_workers,
    Turmoil.kill,
)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(MISFORTUNES), st.sampled_from(VERSIONS)), max_size=10))
def test_a_model_is_served_on(happenings: list[tuple[Callable[[Turmoil, int], None], int]]) -> None:
    """Deploys, rollbacks, failing loads and trials, a database that goes away, kills: there is always a champion, and
    once all is mended it is the wanted one, with a history without a gap.
    """
    with tempfile.TemporaryDirectory() as home:
        turmoil = Turmoil(Path(home))
        try:
            for happen, number in happenings:
                happen(turmoil, number)
                assert turmoil.served in VERSIONS
            turmoil.settle()
        finally:
            turmoil.machine.__exit__()
