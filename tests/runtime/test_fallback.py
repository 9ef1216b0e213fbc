"""A declared fallback is checked against what its model answers."""

from __future__ import annotations

import pytest

from penstock.bundle.outputs import OutputSpec
from penstock.errors import SettingsError
from penstock.runtime import Fallback
from penstock.runtime.fallback import require_fits
from penstock.schema.prediction import Prediction

YES_NO = OutputSpec(kind="classification", classes=("no", "yes"), has_probabilities=True)
ONE_TWO = OutputSpec(kind="classification", classes=(1, 2))
LINE = OutputSpec(kind="regression")
TWO_LINES = OutputSpec(kind="regression", targets=("a", "b"))
ODD = OutputSpec(kind="anomaly", classes=(-1, 1))


def constant(**members: object) -> Fallback:
    return Fallback("constant", prediction=Prediction(**members))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "fallback"),
    [
        (YES_NO, constant(label="no", probabilities={"no": 0.9, "yes": 0.1})),
        (ONE_TWO, constant(label=2)),
        (LINE, constant(value=0.0)),
        (TWO_LINES, constant(values={"a": 1.0, "b": 2.0})),
        (ODD, constant(label=1, value=0.5)),
        (YES_NO, Fallback("version", version=2)),
        (LINE, Fallback("abstain")),
    ],
)
def test_what_the_model_could_answer_fits(spec: OutputSpec, fallback: Fallback) -> None:
    """A constant of the model's own outputs, another version, an abstention."""
    require_fits(fallback, "churn", spec)


@pytest.mark.parametrize(
    ("spec", "fallback", "message"),
    [
        (YES_NO, Fallback("constant"), "got the kind constant with neither"),
        (YES_NO, Fallback("abstain", version=1), "got the kind abstain with version"),
        (YES_NO, Fallback("version"), "got the kind version with neither"),
        (YES_NO, constant(label="no"), "expected label and probabilities, got label"),
        (YES_NO, constant(label="maybe", probabilities={"no": 1.0, "yes": 0.0}), "expected a label out of"),
        (YES_NO, constant(label="no", probabilities={"yes": 1.0, "no": 0.0}), "of no, yes in this order"),
        (YES_NO, constant(label="no", probabilities={"no": 0.9, "yes": 0.9}), "that sum to 1"),
        (ONE_TWO, constant(label=True), "expected a label out of \\[1, 2\\], got True"),
        (ONE_TWO, constant(label="1"), "expected a label out of \\[1, 2\\], got '1'"),
        (LINE, constant(value=float("nan")), "expected a finite value"),
        (LINE, constant(label=1), "expected value, got label"),
        (TWO_LINES, constant(values={"a": 1.0}), "expected finite values of a, b"),
        (ODD, constant(), "expected label and value, got nothing"),
    ],
)
def test_what_does_not_fit_is_refused(spec: OutputSpec, fallback: Fallback, message: str) -> None:
    """The message says what was expected of which model."""
    with pytest.raises(SettingsError, match=message) as refused:
        require_fits(fallback, "churn", spec)
    assert "at `fallback.churn`" in str(refused.value)


def test_a_fallback_answers_each_row() -> None:
    """One prediction a row; an abstention is one without label or value."""
    assert [Prediction(value=1.0)] * 2 == constant(value=1.0).predictions(2)
    assert [Prediction()] * 3 == Fallback("abstain").predictions(3)
