"""Storms: the first events are told, the rest are counted and told once a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.telemetry import Storm, Summary


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_first_are_told_and_the_rest_counted(clock: Clock) -> None:
    """Three of a hundred are told; when the minute is over one summary has the others, and the last of them."""
    storm: Storm[str] = Storm(clock=clock, first=3, window_s=60.0)
    assert [0, 1, 2] == [number for number in range(100) if storm.is_told("failed", str(number))]
    assert [] == storm.summaries()
    assert 60.0 == storm.due_s
    clock.now_s += 60
    assert [Summary("failed", 97, 60.0, "99")] == storm.summaries()
    assert [] == storm.summaries()


def test_a_storm_that_goes_on_is_told_once_a_window(clock: Clock) -> None:
    """After a summary none is told singly until a window has passed without any."""
    storm: Storm[str] = Storm(clock=clock, first=1, window_s=60.0)
    told = [storm.is_told("failed", "a"), storm.is_told("failed", "b")]
    clock.now_s += 60
    assert [1] == [summary.untold for summary in storm.summaries()]
    told += [storm.is_told("failed", "c"), storm.is_told("failed", "d")]
    clock.now_s += 60
    assert [Summary("failed", 2, 60.0, "d")] == storm.summaries()
    clock.now_s += 60
    assert [] == storm.summaries()
    assert storm.due_s is None
    assert [True, False, False, False, True] == [*told, storm.is_told("failed", "e")]


def test_one_storm_hides_no_other(clock: Clock) -> None:
    """Each key has an allowance of its own."""
    storm: Storm[tuple[str, str]] = Storm(clock=clock, first=1)
    keys = [("churn 3", "model_failed"), ("churn 4", "model_failed"), ("churn 3", "slow")]
    assert [True] * 3 == [storm.is_told(key, "") for key in keys]
    assert [False] * 3 == [storm.is_told(key, "") for key in keys]


def test_the_end_tells_what_is_untold(clock: Clock) -> None:
    """At the end a window need not be over; its length is what has passed."""
    storm: Storm[str] = Storm(clock=clock, first=0, window_s=60.0)
    storm.is_told("failed", "a")
    clock.now_s += 12
    assert [Summary("failed", 1, 12.0, "a")] == storm.summaries(is_end=True)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 90)), max_size=60))
def test_every_event_is_told_or_counted_once(events: list[tuple[str, float]]) -> None:
    """Told ones and summaries together are all events, in whatever order time and summaries come."""
    clock = Clock()
    storm: Storm[str] = Storm(clock=clock, first=2, window_s=60.0)
    told = counted = 0
    for key, wait_s in events:
        clock.now_s += wait_s
        counted += sum(summary.untold for summary in storm.summaries())
        told += storm.is_told(key, "x")
    counted += sum(summary.untold for summary in storm.summaries(is_end=True))
    assert len(events) == told + counted
