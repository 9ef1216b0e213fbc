"""Thresholds moved back: the pulled threshold asks the same question of the raw value, at every double."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.bundle.compile.pullback import doubles, is_left, ordinals, pulled_back, sends_missing_left

FINITE = st.floats(allow_nan=False, allow_infinity=False)
MAPPINGS = {
    "identity": lambda x: x,
    "scaled": lambda x: (x - 3.7) / 0.31,
    "logarithm": lambda x: np.log1p(np.maximum(x, 0.0)),
    "clipped": lambda x: np.clip(x, -5.0, 5.0),
}


@given(FINITE, FINITE)
def test_ordinals_keep_the_order(one: float, other: float) -> None:
    """The places of two doubles compare as the doubles do; only the two zeros differ in place and not in value."""
    places = ordinals(np.array([one, other]))
    if one < other:
        assert places[0] < places[1]
    assert [one, other] == doubles(places).tolist()


@given(st.floats(min_value=-1e300, max_value=1e300))
def test_neighbours_differ_by_one(value: float) -> None:
    """The next double has the next place; zero has one for each sign."""
    places = ordinals(np.array([value, np.nextafter(value, np.inf)]))
    assert (2 if value == 0 and np.signbit(value) else 1) == places[1] - places[0] or value in (0.0, -5e-324)


@pytest.mark.parametrize("name", MAPPINGS)
@pytest.mark.parametrize("narrow", [True, False])
@given(threshold=st.floats(-1e6, 1e6), value=st.floats(-1e7, 1e7))
def test_same_question(name: str, narrow: bool, threshold: float, value: float) -> None:
    """The raw comparison with the pulled threshold answers as the split of the mapped value, also beside the turn."""
    mapping = MAPPINGS[name]
    thresholds = np.array([threshold])
    pulled = pulled_back(mapping, thresholds, narrow=narrow)[0]
    with np.errstate(over="ignore", invalid="ignore"):
        beside = np.array([pulled, np.nextafter(pulled, np.inf), np.nextafter(pulled, -np.inf), value])
        beside = beside[np.isfinite(beside)]
        asked = is_left(mapping(beside), np.full(len(beside), threshold), narrow=narrow)
    assert (beside <= pulled).tolist() == asked.tolist()


def test_float32_ties_go_with_the_even_neighbour() -> None:
    """A double half way between two float32 values is rounded to the even one, and so is the threshold's question."""
    even = float(np.float32(1.0))
    half = even + 2.0**-24
    pulled = pulled_back(lambda x: x, np.array([even]), narrow=True)
    assert [half] == pulled.tolist()


def test_all_or_none() -> None:
    """A threshold that every value passes becomes infinity, one that none passes minus infinity."""
    clipped = pulled_back(lambda x: np.clip(x, 0.0, 1.0), np.array([2.0, -1.0]), narrow=False)
    assert [np.inf, -np.inf] == clipped.tolist()


def test_imputed_missing_values_go_with_their_fill() -> None:
    """Where preprocessing fills a missing value, the fill decides; where it does not, the tree's own rule does."""
    thresholds, rule = np.array([1.0, 3.0]), np.array([True, False])
    filled = sends_missing_left(lambda x: np.where(np.isnan(x), 2.0, x), thresholds, rule, narrow=False)
    kept = sends_missing_left(lambda x: x, thresholds, rule, narrow=False)
    assert ([False, True], [True, False]) == (filled.tolist(), kept.tolist())
