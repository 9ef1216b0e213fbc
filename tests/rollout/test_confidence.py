"""The interval of a difference of means."""

from __future__ import annotations

import random
from math import isfinite, sqrt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.rollout.confidence import Difference, half_width, wilson, winsorised

values = st.tuples(st.floats(-1e6, 1e6), st.sampled_from([0, 10_000, 500_000, 999_999]), st.booleans())


def drawn(n: int, gap: float, share: int = 500_000, seed: int = 1) -> Difference:
    """Normal values, the canary's higher by `gap`."""
    chance = random.Random(seed)
    difference = Difference()
    for _ in range(n):
        is_canary = chance.random() < share / 1_000_000
        difference.observe(chance.gauss(5 + gap * is_canary, 1), share, is_canary=is_canary)
    return difference


def test_a_difference_is_found() -> None:
    """Half a deviation of difference is told from none after 2,000 values, and lies in the interval."""
    interval = drawn(2_000, 0.5).interval(2_000)
    assert interval.lower is not None
    assert interval.upper is not None
    assert (True, 0) == (0 < interval.lower < 0.5 < interval.upper, interval.needed)


def test_no_difference_is_no_difference() -> None:
    """Without one, 0 lies in the interval."""
    interval = drawn(2_000, 0.0).interval(2_000)
    assert interval.lower is not None
    assert interval.upper is not None
    assert interval.lower < 0 < interval.upper


@pytest.mark.parametrize(("share", "enough"), [(500_000, 100), (10_000, 1_000)])
def test_below_the_floor_nothing_is_told(share: int, enough: int) -> None:
    """Each arm needs 100 values, or 10 over the canary's share if that is more."""
    difference = Difference()
    for number in range(2 * enough):
        difference.observe(float(number % 3), share, is_canary=number % 2 == 0)
        is_told = difference.interval(1_000).lower is not None
        assert is_told == (min(difference.canary_n, difference.champion_n) >= enough)


def test_what_is_needed_is_then_enough() -> None:
    """With as many more values of the same kind, the interval leaves 0 out."""
    difference = drawn(1_000, 0.1)
    interval = difference.interval(4_000)
    assert interval.needed
    n, spread = 1_000 + interval.needed, difference.squares / 1_000 - interval.difference**2
    assert half_width(n, spread, planned=4_000, alpha=0.05) < abs(interval.difference)


def test_the_width_against_by_hand() -> None:
    """1,000 values of variance 1 planned for 1,000: some 1.6 times the width of an interval for one look."""
    width = half_width(1_000, 1.0, planned=1_000, alpha=0.05)
    assert 1.5 < width / (1.96 / sqrt(1_000)) < 1.7


@given(st.lists(values, max_size=60), st.integers(0, 60))
def test_parts_add_up(seen: list[tuple[float, int, bool]], cut: int) -> None:
    """Counts and means of parts are those of the whole, whichever is added to which; nothing is ever NaN."""
    parts = Difference(), Difference()
    for number, (value, share, is_canary) in enumerate(seen):
        parts[number >= cut].observe(value, share, is_canary=is_canary)
    one, other = msgspec.structs.replace(parts[0]), msgspec.structs.replace(parts[1])
    one.merge(parts[1])
    other.merge(parts[0])
    arms = [[value for value, share, is_canary in seen if share and is_canary is arm] for arm in (True, False)]
    assert [len(arm) for arm in arms] == [one.canary_n, one.champion_n] == [other.canary_n, other.champion_n]
    for mean, arm in zip((one.canary_mean, one.champion_mean), arms, strict=True):
        assert mean == pytest.approx(sum(arm) / len(arm) if arm else 0.0, abs=1e-6)
    assert one.total == pytest.approx(other.total)
    assert all(isfinite(number) for number in msgspec.structs.astuple(one))


def test_extremes_are_cut() -> None:
    """Winsorised values stay within the bound on both sides."""
    assert [10, -10, 3] == [winsorised(value, 10) for value in (1e9, -1e9, 3)]


def test_the_interval_of_a_share_at_one_look() -> None:
    """Wilson's, as tables have it; everything is possible of nothing."""
    assert pytest.approx((0.0215, 0.1118), abs=1e-3) == wilson(5, 100)
    assert (0.0, 1.0) == wilson(0, 0)
