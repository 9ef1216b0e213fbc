"""Simulated rollouts, looked at after every request: false alarms, detection, time to promotion, coverage. Fixed seeds;
the longer runs of `make simulate` make the tables of docs/rollouts.md.
"""

from __future__ import annotations

import random
from math import log

import msgspec
import numpy as np
import pytest
from histories import evidence_of, request
from lives import (
    Life,
    Traffic,
    alarm_at,
    coverage_misses,
    flat,
    is_mismatched,
    is_stopped_at_the_end,
    is_stopped_by_looking,
    live,
    log_e,
    log_proof,
    of_callers_once,
    proven_at,
    ramp,
)

from penstock.rollout import Watched
from penstock.rollout.counts import log_e as log_e_of
from penstock.rollout.counts import totals
from penstock.rollout.non_inferior import proof_of

RUNS = 200
SINGLE = 20.0  # one guardrail at alpha = 0.05
CALLERS = msgspec.structs.replace(ramp(16_000), callers=4_000)


def lives(traffic: Traffic, runs: int = RUNS, seed: int = 1) -> list[Life]:
    """Some lives, from a seed."""
    chance = np.random.default_rng(seed)
    return [live(traffic, chance) for _ in range(runs)]


@pytest.mark.parametrize(
    "traffic",
    [flat(16_000), ramp(16_000), ramp(16_000, base=0.005, end=0.03), CALLERS],
    ids=["flat", "ramp", "the base rises while the weight does", "sticky callers of a power law"],
)
def test_an_identical_canary_is_seldom_aborted(traffic: Traffic) -> None:
    """At most 5 % of identical canaries are aborted at alpha = 0.05, looked at after every request."""
    assert sum(alarm_at(life, SINGLE) is not None for life in lives(traffic)) <= 0.05 * RUNS


def test_the_usual_test_aborts_many() -> None:
    """In the same lives: a z-test that is looked at again and again, and one at the end where the base rose."""
    looked_at = sum(map(is_stopped_by_looking, lives(flat(16_000))))
    pooled = sum(map(is_stopped_at_the_end, lives(ramp(16_000, base=0.005, end=0.03))))
    assert (True, True) == (looked_at > 0.25 * RUNS, pooled > 0.8 * RUNS)


@pytest.mark.parametrize(
    ("base", "ratio", "extra", "designed"),
    [(0.01, 3, 0.0, 263), (0.01, 5, 0.0, 96), (0.01, 10, 0.0, 28), (0.0, 1, 0.05, 35)],
)
def test_a_worse_canary_is_found_soon(base: float, ratio: float, extra: float, designed: int) -> None:
    """At a weight of 10 %, the median of canary requests until the abort is at most 1.25 times the design's."""
    traffic = msgspec.structs.replace(flat(16_000, base=base), ratio=ratio, extra=extra)
    found = [alarm_at(life, SINGLE) for life in lives(traffic)]
    assert np.median([at if at is not None else np.inf for at in found]) <= 1.25 * designed


@pytest.mark.parametrize(("base", "requests", "most"), [(0.0, 8_000, 750), (0.05, 30_000, 2_500)])
def test_an_identical_canary_is_promoted_in_time(base: float, requests: int, most: int) -> None:
    """Without events some 650 canary requests prove it; at 5 % of them some 2,000."""
    proven = [proven_at(life) for life in lives(flat(requests, base=base), 25)]
    assert np.median([at if at is not None else np.inf for at in proven]) <= most


def test_a_worse_canary_is_seldom_promoted() -> None:
    """One that is worse both ways, by half a point and by half, is proven not to be in at most 5 % of lives."""
    worse = msgspec.structs.replace(flat(8_000, base=0.005), ratio=2.0)
    assert sum(proven_at(life) is not None for life in lives(worse, 60)) <= 3


@pytest.mark.parametrize("traffic", [flat(10_000), ramp(10_000)], ids=["flat", "ramp"])
def test_intervals_of_means_hold_at_every_moment(traffic: Traffic) -> None:
    """In at most 5 % of lives the interval ever leaves out the truth, though level and weights move."""
    chance = np.random.default_rng(3)
    level = np.linspace(0, 2, 10_000)
    held = lives(traffic, 2 * RUNS)
    missed = sum(coverage_misses(life, np.minimum(chance.lognormal(0, 1, 10_000), 10) + level, 10_000) for life in held)
    assert missed <= 0.05 * 2 * RUNS


def test_a_mismatch_is_seldom_seen_where_there_is_none() -> None:
    """No false alarm in 200 lives at an alpha of 0.001; 8 % in place of 10 % are found in all of 40."""
    chance = np.random.default_rng(4)
    assert not any(is_mismatched(life.is_canary, life.shares) for life in lives(ramp(10_000)))
    short = np.full(10_000, 0.1)
    assert all(is_mismatched(chance.random(10_000) < 0.08, short) for _ in range(40))


def observed(life: Life) -> list[object]:
    """A life as observations."""
    return [
        request(
            arm="canary" if life.is_canary[place] else "champion",
            weight=float(life.shares[place]),
            champion_weight=float(1 - life.shares[place]),
            at=1e9 + place / 100,
            is_error=bool(life.is_event[place]),
            key_hash=int(life.callers[place]),
        )
        for place in range(len(life.shares))
    ]


@pytest.mark.parametrize(
    "traffic", [ramp(4_000, base=0.02), msgspec.structs.replace(ramp(4_000, base=0.05), callers=500)]
)
def test_the_simulation_is_the_evidence(traffic: Traffic) -> None:
    """E and proof of simulated lives are what `Evidence` itself makes of the same requests."""
    for life in lives(traffic, 3):
        evidence = evidence_of(observed(life))  # type: ignore[arg-type]
        errors = evidence.events["error"]
        assert log_e(life, of_callers_once(life))[-1] == pytest.approx(log_e_of(errors.counted, 1.0))
        proof = proof_of(evidence.requests, errors.every, errors.every)
        assert log_proof(life)[-1] == pytest.approx(proof.log_e)


def is_held_for_slowness(seed: int, slower: float = 1.0) -> bool:
    """Whether `slow` is in alarm at any of 40 looks: 1 → 50 %, two workers, ticks that run one arm after the other, and
    stalls of 50 to 300 ms that hit every run of a worker.
    """
    chance = random.Random(seed)
    evidence = evidence_of([], Watched(is_recalibrated=True))
    at, stalled_until = 1e9, {"a": 0.0, "b": 0.0}
    for tick in range(3_000):
        at += chance.uniform(0.002, 0.02)
        worker, weight = chance.choice("ab"), (0.01, 0.05, 0.25, 0.5)[tick // 750]
        if chance.random() < 0.01:
            stalled_until[worker] = at + chance.uniform(0.05, 0.3)
        arms = ["canary" if chance.random() < weight else "champion" for _ in range(chance.randint(1, 6))]
        for arm in chance.sample(["canary", "champion"], 2):
            run_ms = arms.count(arm) ** 0.5 * chance.lognormvariate(0, 0.2) * (6 if at < stalled_until[worker] else 1)
            for _ in range(arms.count(arm)):
                evidence.observe(
                    request(
                        arm=arm,
                        weight=weight,
                        champion_weight=1 - weight,
                        at=at,
                        worker=worker,
                        batch_rows=arms.count(arm),
                        run_ms=run_ms * (slower if arm == "canary" else 1.0),
                    )
                )
        if tick % 75 == 0 and log_e_of(evidence.slowness.slow, 2.0) >= log(600):
            return True
    assert totals(evidence.slowness.looks)[0] > 100
    return False


def test_stalls_and_small_batches_hold_no_identical_canary() -> None:
    """Of identical canaries under load with stalls none is held as slow; one that is five times slower always is."""
    assert not any(is_held_for_slowness(seed) for seed in range(8))
    assert all(is_held_for_slowness(seed, slower=5.0) for seed in range(2))
