"""A label that is decided from one probability: from the threshold on, and not at all within the band."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.bundle.outputs import OutputSpec
from penstock.errors import SettingsError
from penstock.routing import Decision
from penstock.runtime.decision import decide_by, require_decides
from penstock.schema.prediction import Prediction

CHURN = OutputSpec(kind="classification", classes=("no", "yes"), has_probabilities=True)
COUNTS = OutputSpec(kind="classification", classes=(0, 1, 2), has_probabilities=True)
SHARES = st.floats(0, 1)


def of(share: float) -> Prediction:
    return Prediction("no" if share < 0.5 else "yes", {"no": 1 - share, "yes": share})


@given(st.lists(SHARES, max_size=5), st.tuples(SHARES, SHARES, SHARES))
def test_the_share_decides(shares: list[float], bounds: tuple[float, float, float]) -> None:
    """Row by row, whatever the model's own label is; the probabilities stay the model's."""
    low, threshold, high = sorted(bounds)
    plain = decide_by(Decision(label="yes", otherwise="no", threshold=threshold), CHURN)
    banded = decide_by(Decision(label="yes", otherwise="no", threshold=threshold, abstain=(low, high)), CHURN)
    predictions = [of(share) for share in shares]
    expected = ["yes" if share >= threshold else "no" for share in shares]
    assert expected == [prediction.label for prediction in plain(predictions)]
    assert [None if low <= share < high else label for share, label in zip(shares, expected, strict=True)] == [
        prediction.label for prediction in banded(predictions)
    ]
    assert [prediction.probabilities for prediction in predictions] == [
        prediction.probabilities for prediction in banded(predictions)
    ]


def test_a_label_keeps_its_type() -> None:
    """`label` names a key of `probabilities`; what is answered is the class."""
    decide = decide_by(Decision(label="2", otherwise="0", threshold=0.3), COUNTS)
    [one, other] = decide(
        [Prediction(1, {"0": 0.1, "1": 0.6, "2": 0.3}), Prediction(1, {"0": 0.2, "1": 0.6, "2": 0.2})]
    )
    assert (2, 0) == (one.label, other.label)
    assert int is type(one.label)


@pytest.mark.parametrize(
    ("decision", "spec", "message"),
    [
        ({"label": "maybe"}, CHURN, "Expected `label` to be one of no, yes, got 'maybe' - at `decision` of 'churn'"),
        ({"otherwise": "2"}, CHURN, "Expected `otherwise` to be one of no, yes, got '2'"),
        ({"otherwise": "yes"}, CHURN, "Expected two labels to decide between, got 'yes' twice"),
        ({"abstain": (0.6, 0.7)}, CHURN, "a band around the threshold 0.5, got 0.6 to 0.7"),
        ({"abstain": (0.6, 0.4)}, CHURN, "a band around the threshold 0.5, got 0.6 to 0.4"),
        ({}, OutputSpec(kind="regression"), "Expected a model that answers `probabilities`, got one of value"),
        ({}, OutputSpec(kind="classification", classes=("no", "yes")), "got one of label"),
    ],
)
def test_a_decision_that_cannot_be_made(decision: dict[str, object], spec: OutputSpec, message: str) -> None:
    """It is told what does not fit."""
    made = Decision(**{"label": "yes", "otherwise": "no", "threshold": 0.5, **decision})  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as caught:
        require_decides(made, "churn", spec)
    assert message in str(caught.value)
