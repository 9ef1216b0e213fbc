"""Proof that a canary is not worse, and how much is missing."""

from __future__ import annotations

import pytest

from penstock.rollout.counts import Tally
from penstock.rollout.non_inferior import LEAST_REQUESTS, PROOF_LIMIT, excluded_rate, proof_of


def requests_until_proof(share: int, step: int = 10) -> int:
    """Canary requests without any event on either side."""
    canary = 0
    while True:
        canary += step
        requests: Tally = {share: [canary, canary * (1_000_000 - share) // share]}
        if proof_of(requests, {}, {}).is_proven:
            return canary


@pytest.mark.parametrize("share", [10_000, 50_000, 100_000, 250_000, 500_000])
def test_without_events_some_600_canary_requests_prove_it(share: int) -> None:
    """Whatever the share, an identical canary without events is proven after 600 requests, to a quarter."""
    assert 600 <= requests_until_proof(share) <= 750


@pytest.mark.parametrize(("rate", "about"), [(0.01, 300), (0.005, 600)])
def test_what_requests_without_events_exclude(rate: float, about: int) -> None:
    """About 300 requests without an event exclude 1 %, about 600 exclude 0.5 %."""
    assert excluded_rate(about - 1, 0) > rate
    assert excluded_rate(round(about * 1.15), 0) <= rate


def test_events_exclude_less() -> None:
    """More events of as many requests exclude less, and never their own rate."""
    rates = [excluded_rate(1_000, events) for events in (0, 1, 10, 100, 1_000)]
    assert rates == sorted(rates)
    assert [True] * 4 == [rate > events / 1_000 for rate, events in zip(rates, (0, 1, 10, 100), strict=False)]
    assert 1.0 == excluded_rate(0, 0)


def test_the_champions_requests_alone_prove_nothing() -> None:
    """No traffic is no pass: a million requests of the champion, and none or few of the canary."""
    for canary in (0, LEAST_REQUESTS - 1):
        proof = proof_of({100_000: [canary, 1_000_000]}, {}, {})
        assert (False, LEAST_REQUESTS - canary) == (proof.is_proven, proof.needed)


def test_nothing_is_known_of_no_requests() -> None:
    """Before the first request E is 1, and what a canary without events will need is told."""
    proof = proof_of({}, {}, {})
    assert 0.0 == pytest.approx(proof.log_e)
    assert proof.needed is not None
    assert 600 <= proof.needed <= 750


def test_needed_shrinks_to_nothing() -> None:
    """At the present rate, what was needed is what then proves it."""
    half = proof_of({100_000: [300, 2_700]}, {}, {})
    assert half.needed is not None
    canary = 300 + half.needed
    assert proof_of({100_000: [canary, 9 * canary]}, {}, {}).is_proven


def test_a_worse_canary_never_gets_there() -> None:
    """With twice the champion's events, and a point more, nothing is in sight."""
    requests, events = {500_000: [10_000, 10_000]}, {500_000: [200, 100]}
    proof = proof_of(requests, events, events)
    assert (False, None) == (proof.log_e > 0, proof.needed)


def test_common_events_are_proven_by_the_ratio() -> None:
    """At 5 % on both sides it is the ratio that is proven, before the difference would be."""
    requests, events = {500_000: [5_000, 5_000]}, {500_000: [250, 250]}
    assert proof_of(requests, events, events).is_proven
    assert not proof_of(requests, events, {}).is_proven


def test_the_limit_is_that_of_five_percent() -> None:
    """Proof is at a chance of 5 %."""
    assert 20 == PROOF_LIMIT
