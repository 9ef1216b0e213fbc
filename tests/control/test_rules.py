"""Floors and losses of metrics, in words."""

from __future__ import annotations

import msgspec
import pytest
from states import published

from penstock.control.changes import Rules
from penstock.control.rules import broken_rules, is_error


def test_floors_are_least_values() -> None:
    """A metric at its floor passes, below it does not; of an error the floor is the greatest value."""
    rules = Rules(floors={"roc_auc": 0.85, "rmse": 2.0})
    assert [] == broken_rules(rules, published(2, metrics={"roc_auc": 0.85, "rmse": 2.0}), None)
    expected = ["rmse is 2.5, to be at most 2", "roc_auc is 0.849, to be at least 0.85"]
    assert expected == broken_rules(rules, published(2, metrics={"roc_auc": 0.849, "rmse": 2.5}), None)


def test_a_metric_that_is_not_there_breaks_its_floor() -> None:
    """What the evaluation does not have, or has as NaN, fulfils no rule."""
    rules = Rules(floors={"roc_auc": 0.5})
    expected = ["roc_auc is to be at least 0.5, and the evaluation does not have it"]
    assert expected == broken_rules(rules, published(2), None)
    assert 1 == len(broken_rules(rules, published(2, metrics={"roc_auc": float("nan")}), None))


def test_losses_are_measured_on_the_same_rows() -> None:
    """A metric may be as much worse than the champion's as is said, on the same evaluation set only."""
    rules = Rules(max_loss={"roc_auc": 0.01, "rmse": 0.5})
    champion = published(1, metrics={"roc_auc": 0.9, "rmse": 2.0}, evaluation_set="sha256:abc")
    good = published(2, metrics={"roc_auc": 0.8950, "rmse": 2.5}, evaluation_set="sha256:abc")
    assert [] == broken_rules(rules, good, champion)
    bad = published(2, metrics={"roc_auc": 0.88, "rmse": 2.6}, evaluation_set="sha256:abc")
    expected = [
        "rmse is 2.6, the champion's is 2: worse by more than 0.5",
        "roc_auc is 0.88, the champion's is 0.9: worse by more than 0.01",
    ]
    assert sorted(expected) == sorted(broken_rules(rules, bad, champion))
    [differ] = broken_rules(rules, msgspec.structs.replace(good, evaluation_set="sha256:def"), champion)
    assert "the evaluation sets differ (def, the champion's abc)" in differ
    [unknown] = broken_rules(rules, msgspec.structs.replace(good, evaluation_set=None), champion)
    assert "none is stated" in unknown


def test_a_loss_needs_both_values() -> None:
    """It is said whose evaluation lacks the metric."""
    rules = Rules(max_loss={"f1": 0.1})
    with_f1, without = ({"evaluation_set": "x", "metrics": metrics} for metrics in ({"f1": 0.5}, {}))
    for candidate, champion, whose in ((without, with_f1, "the version's"), (with_f1, without, "the champion's")):
        [said] = broken_rules(rules, published(2, **candidate), published(1, **champion))
        assert f"{whose} evaluation does not have it" in said


def test_without_a_champion_nothing_is_worse() -> None:
    """The first version, and the champion itself, lose nothing."""
    rules = Rules(max_loss={"f1": 0.0})
    assert [] == broken_rules(rules, published(1), None)
    assert [] == broken_rules(rules, published(1), published(1))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        *((name, True) for name in ("rmse", "MAE", "mse", "rmsle", "smape", "log_loss", "logloss", "loss")),
        *((name, True) for name in ("max_error", "error_rate", "mean_squared_error", "brier", "hinge_loss")),
        *((name, False) for name in ("roc_auc", "accuracy", "r2", "neg_mean_squared_error", "neg_log_loss")),
        *((name, False) for name in ("explained_variance", "average_precision", "lossless", "recall")),
    ],
)
def test_which_metrics_are_errors(metric: str, expected: bool) -> None:
    """Of errors and losses less is better; of scikit-learn's negated ones, and all others, more."""
    assert expected == is_error(metric)


@pytest.mark.parametrize("bound", [float("nan"), float("inf")])
def test_a_rule_is_a_number(bound: float) -> None:
    """A bound that no event could carry is refused."""
    with pytest.raises(msgspec.ValidationError, match="finite number for f1"):
        msgspec.convert({"floors": {"f1": bound}}, Rules)
