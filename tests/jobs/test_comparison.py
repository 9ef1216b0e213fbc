"""Comparisons in parts and kept in between, against one in a single piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from replaying import called

from penstock.audit.record import line_of
from penstock.jobs.comparison import Comparison, ComparisonState
from penstock.jobs.recorded import Asked
from penstock.jobs.scoring import Scoring
from penstock.runtime.model import Model, open_model


@pytest.fixture(scope="module")
def scoring(bundles: dict[str, Path]) -> Scoring:
    """A model of three classes as the candidate, told apart by a field."""
    return Scoring(open_model(bundles["iris"]), Asked(model="iris"), by="petal_width")


def lines_of(model: Model, count: int) -> list[bytes]:
    """Recorded calls, some of whose answers another version gave."""
    lines = []
    for number in range(count):
        given = {"sepal_length": 4 + number % 40 / 10, "sepal_width": 3.0, "petal_length": 1 + number % 60 / 10}
        rows = model.check.from_objects([{**given, "petal_width": 0.1 + number % 3}]).rows
        share = number % 7 / 7
        other = {"label": number % 3, "probabilities": {"0": share, "1": 1 - share, "2": 0.0}}
        lines.append(line_of(called(model, number, rows, **({"outputs": [other]} if number % 4 else {})), number + 1))
    return lines


def test_in_parts_or_at_once_it_says_the_same(scoring: Scoring) -> None:
    """Merged, or kept as JSON and taken up again after each part, a comparison says what it says of all pairs."""
    lines = lines_of(scoring.model, 100)
    whole, kept, merged = Comparison(), ComparisonState(), Comparison()
    whole.add(scoring.score(map(scoring.decode, lines)), scoring)
    for start in range(0, 100, 30):
        pairs = scoring.score(map(scoring.decode, lines[start : start + 30]))
        taken_up, part = Comparison(kept), Comparison()
        for one in (taken_up, part):
            one.add(pairs, scoring)
            one.time(3, 2.0, 1.0)
        merged.merge(part)
        kept = msgspec.json.decode(msgspec.json.encode(taken_up.state()), type=ComparisonState)
    whole_result = steady(whole)
    assert 100 == whole_result.pairs
    assert whole_result.flips > 0
    assert 3 == len(whole_result.segments)
    assert whole_result == steady(merged)
    assert whole_result == steady(Comparison(kept))
    assert [(4, 4, 2000 / 3, 1000 / 3)] == [
        (one.rows, one.timed, one.champion_p50, one.candidate_p50) for one in merged.result().latency
    ]


def test_another_versions_classes_are_compared_too(scoring: Scoring) -> None:
    """A class that the candidate does not have flips, and its probability counts as moved."""
    model = scoring.model
    rows = model.check.from_objects(
        [{"sepal_length": 5.0, "sepal_width": 3.0, "petal_length": 1.4, "petal_width": 0.2}]
    )
    told = [{"label": "rose", "probabilities": {"rose": 0.9, "0": 0.1}}]
    comparison = Comparison()
    comparison.add(scoring.score([scoring.decode(line_of(called(model, 0, rows.rows, outputs=told), 1))]), scoring)
    result = comparison.result()
    assert (1, 1, ["0", "rose"]) == (result.pairs, result.flips, result.labels)
    assert result.moved is not None
    assert 0.9 == pytest.approx(result.moved.most, abs=0.0999)
    assert {"label": "rose"} == {"label": result.largest[0].champion["label"]}


def steady(comparison: Comparison) -> Any:
    """All that it says but times."""
    return msgspec.structs.replace(comparison.result(), latency=[], run_us=None)
