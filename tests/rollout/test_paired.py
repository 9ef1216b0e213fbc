"""A shadow's paired statistics."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.rollout import Pair, Paired
from penstock.rollout.paired import MOST_LABELS, wilson
from penstock.rollout.sketch import Sketch

pairs = st.builds(
    Pair,
    labels=st.none() | st.tuples(st.sampled_from(["no", "yes", "often"]), st.sampled_from(["no", "yes", "often"])),
    scores=st.none() | st.tuples(st.floats(), st.floats()),
    failed=st.tuples(st.booleans(), st.booleans()),
    batch_rows=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    run_ms=st.tuples(st.floats(0, 100), st.floats(0, 100)),
)


def paired(seen: list[Pair]) -> Paired:
    """After these pairs."""
    counts = Paired()
    for pair in seen:
        counts.observe(pair)
    return counts


def test_what_pairs_say() -> None:
    """Disagreement, flips, movement, failures and run time at equal batch size, of ten pairs."""
    same = Pair(labels=("no", "no"), scores=(0.2, 0.2), batch_rows=(2, 2), run_ms=(1.0, 5.0))
    flipped = Pair(labels=("no", "yes"), scores=(0.4, 0.6), batch_rows=(2, 3), run_ms=(1.0, 900.0))
    reading = paired([same] * 7 + [flipped] * 2 + [Pair(failed=(False, True))]).reading()
    assert (10, (0, 1), 9, 2 / 9) == (reading.pairs, reading.failed, reading.labelled, reading.disagreement)
    assert (("no", "yes", 2),) == reading.flips
    assert (7, pytest.approx(5, rel=0.05)) == (reading.timed, reading.run_ratio_p50)
    assert (0.0, pytest.approx(0.2, rel=0.05)) == (reading.moved_p50, reading.moved_p95)
    assert reading.moved_most == pytest.approx(0.2)


def test_nothing_seen_is_readable() -> None:
    """Before the first pair the share of disagreement may be anything."""
    reading = Paired().reading()
    assert (0, 0.0, 1.0, None) == (reading.pairs, reading.lower, reading.upper, reading.run_ratio_p50)


@given(st.lists(pairs, max_size=30), st.integers(0, 30))
def test_pairs_add_up(seen: list[Pair], cut: int) -> None:
    """Parts merged in either order are the whole; JSON brings them back."""
    whole, one, other = paired(seen), paired(seen[:cut]), paired(seen[cut:])
    one.merge(paired(seen[cut:]))
    other.merge(paired(seen[:cut]))
    assert whole == one == other
    assert whole == msgspec.json.decode(msgspec.json.encode(whole), type=Paired)


def test_many_labels_stay_bounded() -> None:
    """Flips between more labels than fit are counted together."""
    counts = paired([Pair(labels=(before, -1 - after)) for before in range(60) for after in range(60)])
    flips = counts.reading().flips
    assert (3_600, True) == (sum(times for _, _, times in flips), len(flips) <= (MOST_LABELS + 1) ** 2)


@given(st.lists(st.floats(1e-8, 1e8), min_size=1, max_size=50), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_quantiles_are_within_five_percent(values: list[float], part: float) -> None:
    """A quantile of the sketch is that of the values, up to 5 % above."""
    sketch = Sketch()
    for value in values:
        sketch.observe(value)
    exact = sorted(values)[max(0, -int(-part * len(values) // 1) - 1)]
    assert exact * 0.999 <= sketch.quantile(part) <= exact * 1.051


def test_a_share_at_one_look() -> None:
    """Wilson's interval of 5 in 100, from the literature."""
    assert (pytest.approx(0.0215, abs=1e-3), pytest.approx(0.1118, abs=1e-3)) == wilson(5, 100)
