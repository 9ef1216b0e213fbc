"""Who gets which arm: buckets that arms own, whatever weights, processes and machines do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from penstock.assignment import (
    BUCKETS,
    Arm,
    ArmRule,
    Experiment,
    Split,
    assign,
    assign_bucket,
    bucket_of,
    placed,
    settled,
    split_of,
)

NAMES = ("blue", "green", "red")


def experiment(*weights: int, id: str = "fees", holdout: int = 0, rules: tuple[ArmRule, ...] = ()) -> Experiment:
    """Arms of versions 2, 3, … with these weights; their buckets are not given out yet."""
    arms = tuple(Arm(name=NAMES[place], version=place + 2, weight=weight) for place, weight in enumerate(weights))
    return Experiment(id=id, arms=arms, holdout=holdout, rules=rules)


def split(found: Experiment, without: tuple[int, ...] = (), key_field: str | None = None) -> Split:
    """As a machine serves it that has versions 1 (the champion) to 4, but those `without`."""
    return split_of(found, {1, 2, 3, 4} - set(without), {"champion": 1, "next": 4}, key_field)


def arms_by_bucket(found: Experiment) -> list[str | None]:
    """The arm of each bucket."""
    one = split(found)
    return [assign_bucket(one, bucket).arm for bucket in range(BUCKETS)]


@examples(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4000)), min_size=1, max_size=6), st.integers(0, 1000))
def test_nobody_moves_between_arms(steps: list[tuple[int, int]], holdout: int) -> None:
    """Whatever order three weights are changed in, callers move only between the champion and the arm that changes,
    only one way, and no bucket more than the change; held-out ones never.
    """
    weights, now = [0, 0, 0], settled(experiment(0, 0, 0, holdout=holdout))
    for arm, weight in steps:
        if sum(weights) - weights[arm] + weight + holdout > BUCKETS:
            continue
        change = weight - weights[arm]
        weights[arm] = weight
        then = settled(experiment(*weights, holdout=holdout), now)
        moves = Counter(
            pair for pair in zip(arms_by_bucket(now), arms_by_bucket(then), strict=True) if len(set(pair)) > 1
        )
        way = ("champion", NAMES[arm]) if change > 0 else (NAMES[arm], "champion")
        assert ({way: abs(change)} if change else {}) == dict(moves)
        now = then
        counts = Counter(arms_by_bucket(now))
        assert weights == [counts[name] for name in NAMES]
        assert {"champion"} == set(arms_by_bucket(now)[BUCKETS - holdout :]) or not holdout


def test_an_arm_gets_the_same_callers_again() -> None:
    """Lowered to nothing and raised again, with nobody in between, an arm has the buckets that it had."""
    full = settled(experiment(2500, 100))
    lowered = settled(experiment(0, 100), full)
    assert full == settled(experiment(2500, 100), lowered)
    assert settled(experiment(500, 100)).arms[0].spans[0][0] == full.arms[0].spans[0][0]


def test_what_would_move_callers_between_arms_is_refused() -> None:
    """An arm cannot be raised by what another gives back at once; nor may salt or holdout change under way."""
    half = settled(experiment(5000, 5000))
    with pytest.raises(ValueError, match="the champion has 0 buckets to give, and 'green' is to get 1000 more"):
        settled(experiment(4000, 6000), half)
    between = settled(experiment(4000, 5000), half)
    assert 6000 == settled(experiment(4000, 6000), between).arms[1].weight
    for changed in (experiment(1, holdout=5), msgspec.structs.replace(experiment(1), salt="sea")):
        with pytest.raises(ValueError, match="are fixed while it runs"):
            settled(changed, settled(experiment(1)))


def test_another_experiment_begins_anew() -> None:
    """What an experiment of another id had given out does not bind the next one."""
    assert settled(experiment(700, id="next")) == settled(experiment(700, id="next"), settled(experiment(700)))


def test_shares_are_within_sampling_error() -> None:
    """Of 100,000 keys each arm has its weight's share, by chi² on 2 degrees of freedom (13.8 is p = 0.001)."""
    one = split(settled(experiment(500, 2500)))
    counts = Counter(assign(one, f"customer-{number}").arm for number in range(100_000))
    expected = {"champion": 70_000, "blue": 5_000, "green": 25_000}
    chi2 = sum((counts[arm] - share) ** 2 / share for arm, share in expected.items())
    assert chi2 < 13.8, counts


@pytest.mark.parametrize("salt", ["", "sea"])
def test_two_experiments_are_independent(salt: str) -> None:
    """A key's arm in one experiment says nothing of its arm in another, also where both share a salt; 4 degrees of
    freedom (18.5 is p = 0.001).
    """
    splits = [
        split(settled(msgspec.structs.replace(experiment(3000, 3000, id=id), salt=salt))) for id in ("fees", "colours")
    ]
    pairs = Counter(tuple(assign(one, f"k{number}").arm for one in splits) for number in range(50_000))
    shares = {"champion": 0.4, "blue": 0.3, "green": 0.3}
    expected = {(a, b): 50_000 * shares[a] * shares[b] for a in shares for b in shares}
    assert sum((pairs[pair] - count) ** 2 / count for pair, count in expected.items()) < 18.5, pairs


def test_every_process_gives_the_same_arm() -> None:
    """Another process, with another hash seed of Python's, gives 1,000 keys the same arms."""
    code = (
        "from penstock.assignment import *\n"
        "e = Experiment(id='fees', arms=(Arm(name='blue', version=2, weight=3000),))\n"
        "s = split_of(settled(e), {1, 2}, {'champion': 1})\n"
        "print([assign(s, f'k{n}').version for n in range(1000)])"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    here = [assign(split(settled(experiment(3000))), f"k{number}").version for number in range(1000)]
    assert [f"{here}\n".encode()] * 2 == told


def test_a_bucket_is_53_bits_of_sha256() -> None:
    """The bucket of a key is what the documents say, to be computed by others; odd keys have one, too."""
    import hashlib

    first = int.from_bytes(hashlib.sha256(b"fees|customer-17").digest(), "big") >> (256 - 53)
    assert int(first / 2**53 * BUCKETS) == bucket_of(b"fees|", "customer-17")
    assert 0 <= bucket_of(b"fees|", "\ud800") < BUCKETS


def test_weights_in_force_are_told() -> None:
    """What is assigned says experiment, arm, bucket and the weights in force, the champion's among them."""
    one = split(settled(experiment(10_000 - 1)))
    told = assign_bucket(one, next(b for b, arm in enumerate(arms_by_bucket(one.experiment)) if arm == "blue"))
    assert ("fees", "blue", 2, None) == (told.experiment, told.arm, told.version, told.placed_by)
    assert {"champion": 1, "blue": 9999} == told.weights


def test_an_arm_that_cannot_be_served_is_the_champions() -> None:
    """Where an arm's version is not there the champion answers, is marked as no evidence, and has the weight."""
    found = settled(experiment(4000, 3000))
    one = split(found, without=(2,))
    there = Counter((arm.arm, arm.version, arm.placed_by) for arm in (assign_bucket(one, b) for b in range(BUCKETS)))
    assert {("champion", 1, "unavailable"): 4000, ("green", 3, None): 3000, ("champion", 1, None): 3000} == there
    assert {"champion": 7000, "blue": 0, "green": 3000} == one.weights


def test_an_alias_is_an_arm() -> None:
    """An arm by alias is the version that the alias names; without it, the champion answers."""
    found = settled(Experiment(id="fees", arms=(Arm(name="blue", alias="next", weight=10_000),)))
    assert ("blue", 4) == (assign(split(found), "k").arm, assign(split(found), "k").version)
    assert "unavailable" == assign(split_of(found, {1, 4}, {"champion": 1}), "k").placed_by


def test_rules_come_before_the_hash() -> None:
    """The first rule that fits gives the arm, and marks the call; else the hash does."""
    rules = (
        ArmRule(arm="blue", header="X-Tester", equals="yes"),
        ArmRule(arm="champion", field="vip", equals=True),
        ArmRule(arm="blue", keys=("customer-17",)),
    )
    one = split(settled(experiment(0, rules=rules)))

    def told(key: str, headers: dict[bytes, bytes], vip: object = False) -> tuple[str | None, str | None]:
        found = assign(one, key, headers=headers, has=lambda field, value: (field, value) == ("vip", vip))
        return found.arm, found.placed_by

    assert ("blue", "rule") == told("k", {b"x-tester": b"yes"}, vip=True)
    assert ("champion", "rule") == told("customer-17", {b"x-tester": b"no"}, vip=True)
    assert ("blue", "rule") == told("customer-17", {})
    assert ("champion", None) == told("customer-18", {})


def test_who_names_a_version_is_placed() -> None:
    """A version that a caller named is of the arm that has it, and marked; one of no arm has none."""
    one = split(settled(experiment(100)))
    assert ("blue", 2, "version", None) == (
        (found := placed(one, 2, "version")).arm, found.version, found.placed_by, found.bucket
    )  # fmt: skip
    assert None is placed(one, 4, "version").arm


@pytest.mark.parametrize(
    ("json", "said"),
    [
        ('{"id": "a b"}', "matching regex"),
        ('{"id": "fees", "arms": [{"name": "champion", "version": 1}]}', "has what the others leave"),
        ('{"id": "fees", "arms": [{"name": "blue"}]}', "Expected a version or an alias of the arm 'blue'"),
        ('{"id": "fees", "arms": [{"name": "blue", "version": 2, "alias": "x"}]}', "got both or neither"),
        ('{"id": "fees", "arms": [{"name": "blue", "version": 2, "weight": 9000}], "holdout": 1001}', "got 10001"),
        ('{"id": "fees", "arms": [{"name": "b", "version": 2}, {"name": "b", "version": 3}]}', "different names"),
        ('{"id": "fees", "rules": [{"arm": "red", "keys": ["a"]}]}', "gives the arm 'red'; there is champion"),
        ('{"id": "fees", "rules": [{"arm": "champion", "keys": ["a"], "field": "x"}]}', "got 2 of them"),
        ('{"id": "fees", "rules": [{"arm": "champion", "header": "x", "equals": 1}]}', "Expected `equals` beside"),
    ],
)
def test_what_cannot_be_is_said(json: str, said: str) -> None:
    """An experiment that makes no sense is refused where it is read, with what is wrong."""
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.json.decode(json, type=Experiment)


def test_it_comes_back_from_json() -> None:
    """With its buckets, as `routing.json` and the history keep it."""
    found = settled(experiment(500, 700, holdout=100, rules=(ArmRule(arm="blue", field="age", equals=3),)))
    assert found == msgspec.json.decode(msgspec.json.encode(found), type=Experiment)
