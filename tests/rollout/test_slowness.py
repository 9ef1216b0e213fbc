"""Slow runs: compared at equal batch size, once a window, in pairs where requests come together."""

from __future__ import annotations

import random

import pytest
from histories import request

from penstock.rollout.counts import log_e, totals
from penstock.rollout.slowness import COLD_BATCHES, Slowness, size_class

SHARE = 100_000


def warmed(seed: int = 1) -> Slowness:
    """The champion's first 300 runs of 1 and of 8 rows; larger ones take longer; the canary's cold runs are over."""
    chance = random.Random(seed)
    slowness = Slowness()
    for number in range(300):
        for rows in (1, 8):
            slowness.observe(request(at=number, batch_rows=rows, run_ms=rows * chance.uniform(1, 2)), SHARE)
    for number in range(COLD_BATCHES):
        slowness.observe(request(arm="canary", at=300 + number, batch_rows=1, run_ms=99 + number), SHARE)
    slowness.looks, slowness.slow = {}, {}
    return slowness


def test_nothing_is_slow_before_the_champion_is_known() -> None:
    """Without 100 of the champion's runs at a size there is no look."""
    slowness = Slowness()
    for number in range(90):
        slowness.observe(request(at=number, batch_rows=4, run_ms=number + 1), SHARE)
    assert ({}, None) == (slowness.looks, slowness.usual_ms(4))


def test_a_fresh_version_is_cold() -> None:
    """The canary's first 200 runs do not count, however slow; requests of one run are one."""
    slowness = warmed()
    slowness.cold = 0
    for number in range(COLD_BATCHES):
        for _ in range(3):
            slowness.observe(request(arm="canary", at=1_000 + number, batch_rows=1, run_ms=50 + number), SHARE)
    assert (0, COLD_BATCHES) == (totals(slowness.looks)[0], slowness.cold)
    for number in range(10):
        slowness.observe(request(arm="canary", at=2_000 + number, batch_rows=1, run_ms=500 + number), SHARE)
    assert (9, 9) == (totals(slowness.looks)[0], totals(slowness.slow)[0])  # the last window is open


def test_large_batches_are_not_slow_for_being_large() -> None:
    """A run of eight rows is compared with the champion's runs of eight rows."""
    slowness = warmed()
    for number in range(50):
        slowness.observe(request(arm="canary", at=1_000 + number, batch_rows=8, run_ms=12), SHARE)
    assert (49, 0) == (totals(slowness.looks)[0], totals(slowness.slow)[0])


def test_a_burst_is_one_pair() -> None:
    """A stall that hits forty requests of a worker within 100 ms is one slow look at each arm, at even shares."""
    slowness = warmed()
    for number in range(40):
        arm = "canary" if number % 10 == 0 else "champion"
        slowness.observe(request(arm=arm, at=1_000.01 + number / 1_000, batch_rows=1, run_ms=90), SHARE)
    slowness.observe(request(at=1_001, batch_rows=1, run_ms=1), SHARE)
    assert {500_000: [1, 1]} == slowness.looks == slowness.slow


def test_several_requests_of_one_arm_compare_nothing() -> None:
    """A window in which only one arm had requests is left out, unless it had one request."""
    slowness = warmed()
    for at in (1_000.01, 1_000.02, 1_001.01, 1_002.01):
        slowness.observe(request(at=at, batch_rows=1, run_ms=90), SHARE)
    assert {SHARE: [0, 1]} == slowness.looks


def test_a_slow_canary_is_found() -> None:
    """Five times slower is an alarm after some 60 looks at the canary."""
    chance = random.Random(3)
    slowness, limit = warmed(), 7.4
    for number in range(3_000):
        is_canary = chance.random() < 0.1
        arm, run_ms = ("canary", chance.uniform(5, 10)) if is_canary else ("champion", chance.uniform(1, 2))
        slowness.observe(request(arm=arm, at=1_000 + number / 50, batch_rows=1, run_ms=run_ms), SHARE)
        if log_e(slowness.slow, 2.0) > limit:
            break
    assert totals(slowness.looks)[0] < 60


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (16, 16), (17, 18), (18, 18), (100, 104), (1000, 1024)])
def test_sizes_that_are_compared(rows: int, size: int) -> None:
    """Small batches are compared each by itself, larger ones to an eighth."""
    assert size == size_class(rows)


def test_workers_that_are_gone_do_not_pile_up() -> None:
    """Open windows are bounded, whatever names workers have."""
    slowness = warmed()
    for number in range(1_000):
        slowness.observe(request(at=1_000, worker=str(number), batch_rows=1, run_ms=1), SHARE)
    assert (256, 1_000 - 256) == (len(slowness.open), totals(slowness.looks)[1])


def test_merging_closes_what_is_open() -> None:
    """Both parts' looks are in the sum, with what the champion's runs taught."""
    one, other = warmed(1), warmed(2)
    for slowness in (one, other):
        slowness.observe(request(at=1_000, batch_rows=1, run_ms=90), SHARE)
    one.merge(other)
    # And each warm-up left a cold run's window of nobody.
    assert (2, {}) == (totals(one.slow)[1], one.open)
    assert 602 == one.speeds[1].times.n
