"""The count e-process: E, the interval of the ratio, and tallies that add up."""

from __future__ import annotations

from math import exp, inf, isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.rollout.counts import (
    MOST_SHARES,
    Tally,
    add,
    bounded_exp,
    count,
    log_e,
    log_e_below,
    mirrored,
    ratio_interval,
    share_of,
    totals,
)

tallies = st.dictionaries(
    st.sampled_from([10_000, 50_000, 250_000, 500_000, 999_999]),
    st.lists(st.integers(0, 10_000), min_size=2, max_size=2),
)


@pytest.mark.parametrize(
    ("weight", "champion_weight", "share"),
    [(0.05, 0.95, 50_000), (0.1, 0.3, 250_000), (1.0, 0.0, 0), (0.0, 1.0, 0), (0.0, 0.0, 0), (1e-9, 1.0, 1)],
)
def test_the_share_is_of_the_two_arms(weight: float, champion_weight: float, share: int) -> None:
    """The share is the canary's of both arms; where one has no weight there is none, and nothing is compared."""
    assert share == share_of(weight, champion_weight)


def test_no_events_are_no_evidence() -> None:
    """E is 1 and the interval unbounded before anything happened."""
    assert (0.0, (0.0, None)) == (round(log_e({}, 1.0), 12), ratio_interval({}, 0.05))


def test_events_as_the_weights_let_expect_speak_for_the_canary() -> None:
    """Events in the ratio of the weights lower E, and the interval holds 1."""
    tally: Tally = {100_000: [10, 90]}
    lower, upper = ratio_interval(tally, 0.05)
    assert log_e(tally, 1.0) < 0
    assert upper is not None
    assert lower < 1 < upper


def test_three_times_the_events_are_an_alarm() -> None:
    """A canary with three times its part of the events is an alarm at 1 and none at an allowed ratio of 3."""
    tally: Tally = {100_000: [25, 75]}
    assert (True, False) == (exp(log_e(tally, 1.0)) > 75, exp(log_e(tally, 3.0)) > 1)


def test_one_event_against_by_hand() -> None:
    """One event of the canary at even shares, of a single alternative: checked against the formula by hand."""
    ratios = [1.25 * (32 / 1.25) ** (step / 11) for step in range(12)]
    by_hand = sum(2 * ratio / (1 + ratio) for ratio in ratios) / 12
    # Nine tenths over all, and one eightieth in the band of this share; the seven other bands say 1.
    assert 0.9125 * by_hand + 0.0875 == pytest.approx(exp(log_e({500_000: [1, 0]}, 1.0)))


def test_a_breakdown_at_a_later_step_is_not_hidden_by_good_days() -> None:
    """A thousand good events at 1 % do not keep a breakdown at 25 % from being an alarm."""
    good: Tally = {10_000: [50, 4950]}
    assert exp(log_e({**good, 250_000: [30, 20]}, 1.0)) > 75


def test_champion_alone_and_canary_alone_leave_one_end_open() -> None:
    """Without events of one arm the interval is bounded on one side only."""
    lower, upper = ratio_interval({500_000: [40, 0]}, 0.05)
    assert (True, None) == (lower > 3, upper)
    lower, upper = ratio_interval({500_000: [0, 40]}, 0.05)
    assert upper is not None
    assert (0.0, True) == (lower, upper < 1 / 3)


@given(tallies, tallies)
def test_adding_is_adding(first: Tally, second: Tally) -> None:
    """The totals of a sum are the sum of the totals, and E of a sum does not depend on the order."""
    one: Tally = {}
    other: Tally = {}
    for sum_of, parts in ((one, (first, second)), (other, (second, first))):
        for part in parts:
            add(sum_of, part)
    assert one == other
    assert totals(one) == tuple(a + b for a, b in zip(totals(first), totals(second), strict=True))
    assert log_e(one, 1.0) == pytest.approx(log_e(other, 1.0))


@given(tallies, st.sampled_from([1.0, 1.25, 2.0]))
def test_evidence_is_always_a_number(tally: Tally, r0: float) -> None:
    """E, its reverse and the interval are finite whatever was counted."""
    numbers = [bounded_exp(log_e(tally, r0)), bounded_exp(log_e_below(tally, r0)), *ratio_interval(tally, 0.05)]
    assert all(number is None or isfinite(number) for number in numbers)


@given(tallies)
def test_the_mirror_turns_the_interval_around(tally: Tally) -> None:
    """With the arms exchanged the interval of the ratio is its inverse."""
    lower, upper = ratio_interval(tally, 0.05)
    turned_lower, turned_upper = ratio_interval(mirrored(tally), 0.05)
    assert turned_upper == (None if lower == 0 else pytest.approx(1 / lower, rel=1e-4))
    assert turned_lower == (0.0 if upper is None else pytest.approx(1 / upper, rel=1e-4))


def test_too_many_shares_are_left_out() -> None:
    """A tally stays bounded: what comes at further shares is left out."""
    tally: Tally = {}
    for share in range(1, 1_000):
        count(tally, share, is_canary=True)
    assert (MOST_SHARES, MOST_SHARES) == (len(tally), totals(tally)[0])


def test_a_bounded_exponential() -> None:
    """What is written down is never infinite."""
    assert (0.0, 1.0, True) == (bounded_exp(-inf), bounded_exp(0.0), isfinite(bounded_exp(1e9)))
