"""The circuit breaker, against a plain model of what it promises."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.runtime import Breaker

FAILURES = 3
OPEN_S = 10.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class BreakerMachine(RuleBasedStateMachine):
    """Calls that begin when they may and end in any order, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.changes: list[bool] = []
        self.breaker = Breaker(FAILURES, OPEN_S, clock=self.clock, on_change=self.changes.append)
        self.running: list[object] = []
        self.trial: object | None = None
        self.in_a_row = 0
        self.opened_s: float | None = None

    def may_run(self) -> bool:
        if self.opened_s is None:
            return True
        return self.trial is None and self.clock.now_s >= self.opened_s + OPEN_S

    @rule()
    def begin(self) -> None:
        """A call asks: it runs, or is refused."""
        assert self.may_run() is not self.breaker.refuses()
        if self.may_run():
            call = object()
            self.breaker.try_with(call)
            self.running.append(call)
            if self.opened_s is not None:
                self.trial = call

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9), how=st.sampled_from(["succeed", "fail", "end"]))
    def finish(self, which: int, how: str) -> None:
        """Any running call ends: with an answer, by the model's failure, or for a reason of its own."""
        call = self.running.pop(which % len(self.running))
        was_trial, self.trial = call is self.trial, None if call is self.trial else self.trial
        if how == "succeed":
            self.breaker.succeed()
            self.in_a_row, self.opened_s, self.trial = 0, None, None
        elif how == "fail":
            self.breaker.fail(call)
            self.in_a_row += 1
            if was_trial or (self.opened_s is None and self.in_a_row >= FAILURES):
                self.opened_s = self.clock.now_s
        else:
            self.breaker.end(call)

    @rule(seconds=st.sampled_from([0.5, 4.0, 9.5, 10.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.now_s += seconds

    @invariant()
    def is_what_the_plain_model_is(self) -> None:
        """Open or not, for how long, and who was told."""
        is_open = self.opened_s is not None
        assert is_open is self.breaker.is_open
        assert is_open is bool(self.changes and self.changes[-1])
        assert all(now is not before for before, now in zip(self.changes, self.changes[1:], strict=False))
        left_s = 0.0 if self.opened_s is None else max(0.0, self.opened_s + OPEN_S - self.clock.now_s)
        assert ("closed" if not is_open else "open" if left_s else "half-open") == self.breaker.state
        if is_open:
            assert max(1.0, left_s) <= self.breaker.retry_after_s() < max(1.0, left_s) + 1


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_no_failures_at_all_is_never() -> None:
    """A breaker of 0 failures stays closed."""
    breaker = Breaker(0, OPEN_S)
    for _ in range(100):
        breaker.fail(object())
    assert ("closed", False) == (breaker.state, breaker.refuses())
