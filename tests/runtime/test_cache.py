"""The response cache, against a plain model: a list of what was kept, the least recently used first."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.runtime import ResponseCache
from penstock.runtime.cache import MOST_ROWS
from penstock.schema.prediction import Prediction
from penstock.telemetry import Registry

ENTRIES = 4
TTL_S = 10.0


class Asked:
    """As much of a version as the cache looks at."""

    def __init__(self, digest: str = "sha256:a") -> None:
        self.digest = digest
        self.labels = ("churn", "1")


VERSIONS: dict[str, Any] = {digest: Asked(digest) for digest in ("sha256:a", "sha256:b")}
ROWS = st.integers(0, 6)


class CacheMachine(RuleBasedStateMachine):
    """Calls of one or several rows of two versions, a clock, and swaps."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.registry = Registry()
        self.cache = ResponseCache(
            entries=ENTRIES, max_bytes=1 << 20, ttl_s=TTL_S, clock=lambda: self.now_s, registry=self.registry
        )
        self.kept: dict[tuple[str, int], tuple[float, float]] = {}  # until, value; oldest use first
        self.hits = self.misses = 0

    @rule(digest=st.sampled_from(sorted(VERSIONS)), rows=st.lists(ROWS, min_size=1, max_size=3), value=st.floats(0, 1))
    def ask(self, digest: str, rows: list[int], value: float) -> None:
        """A call is answered from the cache if every row is there; else all of its rows run and are kept."""
        version = VERSIONS[digest]
        keys = self.cache.keys(version, rows)
        found = self.cache.find(version, keys)
        fresh = [self.kept.get((digest, row), (0.0, 0.0)) for row in rows]
        if all(until_s > self.now_s for until_s, _ in fresh):
            values = [value for _, value in fresh]
            assert found is not None
            assert values == [prediction.value for prediction in found[0]]
            assert found[0] == msgspec.json.decode(found[1], type=list[Prediction])
            for row in rows:
                self.kept[digest, row] = self.kept.pop((digest, row))
            self.hits += 1
            return
        assert found is None
        self.misses += 1
        self.kept = {key: entry for key, entry in self.kept.items() if entry[0] > self.now_s or key[0] != digest
                     or key[1] not in rows}  # fmt: skip
        self.cache.keep(keys, [Prediction(value=value)] * len(rows))
        for row in rows:
            self.kept.pop((digest, row), None)
            self.kept[digest, row] = (self.now_s + TTL_S, value)
        while len(self.kept) > ENTRIES:
            del self.kept[next(iter(self.kept))]

    @rule(seconds=st.sampled_from([1.0, 6.0, 10.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now_s += seconds

    @rule()
    def swap(self) -> None:
        """What is served changes."""
        self.cache.clear()
        self.kept = {}

    @invariant()
    def keeps_what_the_plain_model_keeps(self) -> None:
        """As many entries, their bytes counted, hits and misses counted."""
        assert len(self.kept) == len(self.cache)
        assert (self.cache.size_bytes > 0) is bool(self.kept)
        counted = {family.name: sum(numbers[0] for _, numbers in family.samples) for family in self.registry.state()}
        assert {"penstock_cache_hits_total": self.hits, "penstock_cache_misses_total": self.misses} == counted


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5)


@given(SCALARS, SCALARS)
def test_values_of_other_types_never_share_an_answer(one: object, other: object) -> None:
    """1, 1.0, true and "1" are four rows; 0.0 and -0.0 are two."""
    cache = ResponseCache(entries=9, max_bytes=1 << 20, ttl_s=1)
    is_same = type(one) is type(other) and repr(one) == repr(other)
    assert is_same is (cache.keys(VERSIONS["sha256:a"], [one]) == cache.keys(VERSIONS["sha256:a"], [other]))


def test_the_decision_is_part_of_the_key() -> None:
    """Answers of one content whose labels were decided otherwise are others."""
    cache = ResponseCache(entries=9, max_bytes=1 << 20, ttl_s=1)
    keys = [cache.keys(VERSIONS["sha256:a"], [1], decided) for decided in (b"", b'{"threshold":0.4}')]
    assert 2 == len({key for [key] in keys})


@pytest.mark.parametrize("rows", [[1] * (MOST_ROWS + 1), [2**70]])
def test_what_has_no_key_is_not_looked_up(rows: list[int]) -> None:
    """Long calls, and values beyond what the key can hold, run."""
    assert [] == ResponseCache(entries=9, max_bytes=1 << 20, ttl_s=1).keys(VERSIONS["sha256:a"], rows)


def test_bytes_are_bounded() -> None:
    """However many entries there may be, their bytes stay below the bound."""
    cache = ResponseCache(entries=10_000, max_bytes=10_000, ttl_s=60)
    for row in range(200):
        cache.keep(cache.keys(VERSIONS["sha256:a"], ["x" * row]), [Prediction(label="y" * row)])
        assert cache.size_bytes <= 10_000
    assert 0 < len(cache) < 20
