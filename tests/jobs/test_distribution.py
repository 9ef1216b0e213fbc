"""Numbers in bounded memory: what merging and collapsing keep."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.jobs.distribution import Distribution, Spread, deciles, psi

NUMBERS = st.floats(-1e12, 1e12).map(lambda value: value if abs(value) > 1e-15 else 0.0)
PARTS = st.lists(st.lists(NUMBERS, max_size=30), min_size=1, max_size=6)
SHARES = (0.0, 0.1, 0.5, 0.95, 1.0)


def of(values: list[float], most_exact: int = 1_000) -> Distribution:
    """A distribution of these numbers."""
    found = Distribution(most_exact=most_exact)
    found.add(np.array(values, np.float64))
    return found


@given(PARTS)
def test_parts_merge_into_the_whole(parts: list[list[float]]) -> None:
    """Exact parts, merged and kept in between, say what all numbers together say."""
    whole = [value for part in parts for value in part]
    merged = Distribution()
    for part in parts:
        merged.merge(of(part))
        kept = msgspec.json.decode(msgspec.json.encode(merged.spread()), type=Spread)
        merged = Distribution(kept)
    assert len(whole) == merged.count
    if whole:
        assert np.quantile(whole, SHARES).tolist() == merged.quantiles(SHARES)
        assert of(whole).mean == merged.mean
        assert (min(whole), max(whole)) == (merged.least, merged.most)


@given(PARTS, st.integers(0, 20))
def test_buckets_are_near_and_lose_nothing(parts: list[list[float]], most_exact: int) -> None:
    """Above its bound a distribution counts every number, and a quantile is within 0.2 % of the number of its rank."""
    whole = sorted(value for part in parts for value in part)
    merged = Distribution(most_exact=most_exact)
    for part in parts:
        merged.merge(of(part, most_exact))
    assert len(whole) == merged.count
    assert len(whole) == sum(merged.histogram([-1.0, 0.0, 1.0]))
    if whole and not merged.is_exact:
        for share, found in zip(SHARES, merged.quantiles(SHARES), strict=True):
            rank = max(0, int(np.ceil(share * len(whole))) - 1)
            assert whole[rank] == pytest.approx(found, rel=0.002, abs=1e-15)


def test_psi_is_none_of_the_same_and_grows() -> None:
    """PSI over the champion's tenths: nothing for equal scores, more the further they move."""
    scores = np.linspace(0, 1, 1_000)
    champion = of(scores.tolist())
    edges = deciles(champion)
    found = [psi(champion.histogram(edges), of((scores * by).tolist()).histogram(edges)) for by in (1.0, 0.95, 0.6)]
    assert 9 == len(edges)
    assert 0.0 == found[0] < found[1] < found[2]
    assert [] == deciles(Distribution())[1:]
