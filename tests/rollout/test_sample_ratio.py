"""Sample-ratio mismatch: callers in the ratio of the weights, or not."""

from __future__ import annotations

from math import exp

import pytest

from penstock.rollout.ratio import log_mismatch


@pytest.mark.parametrize(
    ("tally", "is_mismatch"),
    [
        ({}, False),
        ({100_000: [100, 900]}, False),
        ({100_000: [85, 915]}, False),
        ({100_000: [0, 1_000]}, True),
        ({500_000: [4_700, 5_300]}, True),
        ({10_000: [100, 9_900], 500_000: [2_500, 2_500]}, False),
        ({10_000: [300, 9_700], 500_000: [2_500, 2_500]}, True),
    ],
)
def test_a_mismatch_is_found(tally: dict[int, list[int]], is_mismatch: bool) -> None:
    """Callers as the weights say are none, at any step; an arm that gets too few or too many is."""
    assert is_mismatch == (exp(log_mismatch(tally)) >= 1_000)


def test_an_empty_tally_is_no_evidence() -> None:
    """E is 1 before the first caller."""
    assert 0.0 == log_mismatch({})
