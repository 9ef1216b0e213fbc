"""Estimators inside estimators, beyond what the corpus combines: frozen, nested twice, weighted, with one target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from customer_table import amounts, churned, compiled, customers, levels, piped
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from penstock.bundle.compile import NotCompilable

ONE_HOT = OneHotEncoder(handle_unknown="ignore")
FOREST = RandomForestClassifier(4, max_depth=3, random_state=0)


def proof_of(model: Any, target: Any) -> Any:
    """The proof of a pipeline that ends in `model`."""
    frame = customers(250)
    pipeline = piped([SimpleImputer(), StandardScaler()], ONE_HOT, model)
    return compiled(pipeline.fit(frame, None if target is None else target(frame)), frame).proof(30)


@pytest.mark.parametrize(
    "model",
    [
        BaggingClassifier(FOREST, n_estimators=3, max_features=0.7, random_state=0),
        AdaBoostClassifier(LogisticRegression(), n_estimators=3, random_state=0),
        VotingClassifier([("a", make_pipeline(PolynomialFeatures(2), LogisticRegression(C=0.1))), ("b", FOREST)]),
        StackingClassifier([("a", VotingClassifier([("b", FOREST)], voting="soft"))], cv=2, passthrough=True),
        CalibratedClassifierCV(HistGradientBoostingClassifier(max_iter=4), method="isotonic", cv=2),
        CalibratedClassifierCV(GradientBoostingClassifier(n_estimators=4), cv=2),
        CalibratedClassifierCV(SVC(kernel="rbf"), cv=2),
        OneVsRestClassifier(GradientBoostingClassifier(n_estimators=3)),
        OneVsRestClassifier(LogisticRegression()),
    ],
    ids=lambda model: f"{type(model).__name__}",
)
@pytest.mark.parametrize("target", [churned, levels])
def test_nested_classifiers_are_exact(model: Any, target: Any) -> None:
    """What is exact alone is exact inside another estimator."""
    proof = proof_of(model, target)
    assert (True, 0) == (proof.is_exact, proof.flips)


def test_a_frozen_classifier_is_calibrated_exactly() -> None:
    """FrozenEstimator, which calibration of a fitted model asks for, is what it holds."""
    frame = customers(250)
    first = piped([SimpleImputer()], ONE_HOT, FOREST).fit(frame, levels(frame))
    calibrated = CalibratedClassifierCV(FrozenEstimator(first)).fit(frame, levels(frame))
    assert compiled(calibrated, frame).proof(30).is_exact


@pytest.mark.parametrize(
    "model",
    [
        AdaBoostRegressor(Ridge(), n_estimators=4, random_state=0),
        BaggingRegressor(Ridge(), n_estimators=3, max_features=0.7, random_state=0),
        MultiOutputRegressor(AdaBoostRegressor(n_estimators=3, random_state=0)),
    ],
    ids=lambda model: f"{type(model).__name__}",
)
def test_nested_regressors_are_exact(model: Any) -> None:
    """Weighted medians, means and several targets of inner regressors are the original's values."""
    several = isinstance(model, MultiOutputRegressor)
    assert proof_of(model, lambda frame: np.c_[amounts(frame), frame["age"]] if several else amounts(frame)).is_exact


@pytest.mark.parametrize("features", [1.0, 0.5])
def test_isolation_forests_are_exact_at_their_own_limit(features: float) -> None:
    """The label of rows whose score is the limit itself is the original's: contamination puts the limit on a row."""
    proof = proof_of(IsolationForest(n_estimators=8, contamination=0.1, max_features=features, random_state=0), None)
    assert (True, 0) == (proof.is_exact, proof.flips)


def test_probabilities_of_many_pairs_are_coupled() -> None:
    """Pairwise probabilities of five classes become the ones that libsvm's own iteration gives."""
    frame = customers(250)
    classes = np.digitize(frame["age"], [30, 36, 42, 48])
    with pytest.warns(FutureWarning, match="probability"):
        model = piped([SimpleImputer(), StandardScaler()], ONE_HOT, SVC(probability=True, random_state=0))
        model.fit(frame, classes)
    proof = compiled(model, frame).proof(0)
    assert (True, True) == (proof.is_exact, proof.largest_difference < 1e-12)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (CalibratedClassifierCV(LogisticRegression(), method="temperature", cv=2), "calibration by temperature"),
        (SVC(kernel=lambda left, right: left @ right.T), "the kernel"),
    ],
    ids=["temperature", "own kernel"],
)
def test_what_stays_native_is_named(model: Any, reason: str) -> None:
    """What has no exact writing names the last step and says why."""
    with pytest.raises(NotCompilable, match=reason) as refusal:
        proof_of(model, churned)
    assert refusal.value.step == "model"
