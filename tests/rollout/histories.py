"""What tests of the evidence feed it: observations from a seed, and Hypothesis strategies of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

from hypothesis import strategies as st

from penstock.rollout import Evidence, Observation, Watched

EDGES = tuple(step / 10 for step in range(1, 10))
WATCHED = Watched(score_edges=EDGES)


def request(**fields: object) -> Observation:
    """One request at 10 %, by the hash, unless said otherwise."""
    usual: dict[str, object] = {"arm": "champion", "weight": 0.1, "champion_weight": 0.9, "at": 1e9, "worker": "quay/0"}
    return Observation(**{**usual, **fields})  # type: ignore[arg-type]


def evidence_of(seen: Iterable[Observation], watched: Watched = WATCHED) -> Evidence:
    """What is known after these."""
    evidence = Evidence.of(watched)
    for observation in seen:
        evidence.observe(observation)
    return evidence


def traffic(
    requests: int, *, seed: int = 1, weight: float = 0.1, rates: tuple[float, float] = (0.01, 0.01)
) -> list[Observation]:
    """Requests without keys, 10 ms apart, erring at the rates of canary and champion."""
    chance = random.Random(seed)
    made = []
    for number in range(requests):
        is_canary = chance.random() < weight
        arm = "canary" if is_canary else "champion"
        is_error = chance.random() < rates[0 if is_canary else 1]
        at, score = 1e9 + number / 100, chance.random()
        made.append(request(arm=arm, weight=weight, champion_weight=1 - weight, at=at, is_error=is_error, score=score))
    return made


def key_hash(number: int) -> int:
    """As of a key: 63 bits that look like chance."""
    return int.from_bytes(hashlib.sha256(b"%d" % number).digest()[:8]) >> 1


observations = st.builds(
    Observation,
    arm=st.sampled_from(["canary", "champion"]),
    weight=st.sampled_from([0.0, 0.01, 0.05, 0.25, 0.5, 1.0]),
    champion_weight=st.sampled_from([0.0, 0.5, 0.75, 0.99]),
    key_hash=st.none() | st.integers(0, 40).map(key_hash),
    placed_by=st.sampled_from(["hash", "hash", "hash", "rule", "header"]),
    at=st.integers(0, 10**6).map(lambda ms: 1e9 + ms / 1000),
    worker=st.sampled_from(["a", "b"]),
    is_error=st.booleans(),
    is_refused_output=st.booleans(),
    missed_deadline=st.booleans(),
    batch_rows=st.integers(0, 3),
    run_ms=st.floats(0, 10),
    score=st.none() | st.floats(allow_nan=True),
    out_of_range=st.booleans(),
    fallback=st.booleans(),
)
