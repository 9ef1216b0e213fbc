"""What a fitted estimator answers, as an `OutputSpec`; refusals for what has no place in the outputs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_outlier_detector, is_regressor

from penstock.bundle.outputs import ClassLabel, OutputSpec
from penstock.errors import PackRefused


def output_spec(estimator: Any, target: Any = None) -> OutputSpec:
    """The outputs of a fitted estimator; `target` (the training target) gives several targets their names.

    Raises PackRefused for float classes, multi-label, ranking and survival models, and for what does not predict.
    """
    step = type(estimator).__name__
    if not hasattr(estimator, "predict"):
        raise PackRefused(step, "it has no predict", "Give a fitted pipeline that ends in an estimator")
    _refuse_kinds(estimator, step)
    if is_classifier(estimator):
        classes = _classes(estimator, step)
        return OutputSpec(kind="classification", classes=classes, has_probabilities=hasattr(estimator, "predict_proba"))
    if is_outlier_detector(estimator):
        if not hasattr(estimator, "decision_function"):
            raise PackRefused(step, "it has no decision_function", "Fit it so that it can score new rows")
        return OutputSpec(kind="anomaly", classes=(-1, 1))
    if is_regressor(estimator):
        return OutputSpec(kind="regression", targets=_targets(estimator, target))
    raise PackRefused(
        step, "it is neither a classifier, a regressor nor an anomaly detector", "Only these have outputs to serve"
    )


def class_label(value: Any) -> Any:
    """A class as plain Python: bool, int or str."""
    return value.item() if isinstance(value, np.generic) else value


def _refuse_kinds(estimator: Any, step: str) -> None:
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    if "Ranker" in type(last).__name__ or getattr(last, "_estimator_type", None) == "ranker":
        raise PackRefused(step, "ranking models score rows against each other", "Serve its scores as a regression")
    if hasattr(last, "predict_survival_function"):
        raise PackRefused(step, "survival models answer a curve", "Serve a regression of the quantity that you need")


def _classes(estimator: Any, step: str) -> tuple[ClassLabel, ...]:
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise PackRefused(step, "it is not fitted: there are no classes_", "Fit it before packing")
    if isinstance(classes, list):
        raise PackRefused(step, "it answers several labels a row (multi-label)", "Pack one classifier for each label")
    plain = tuple(class_label(value) for value in np.asarray(classes).tolist())
    wrong = next((label for label in plain if not isinstance(label, bool | int | str)), None)
    if wrong is not None:
        kind = type(wrong).__name__
        raise PackRefused(step, f"the class {wrong!r} is a {kind}", "Fit it with bool, int or str classes")
    return plain


def _targets(estimator: Any, target: Any) -> tuple[str, ...]:
    count = _target_count(estimator, target)
    if count < 2:
        return ()
    names = getattr(target, "columns", None)
    return tuple(map(str, names)) if names is not None else tuple(f"y{place}" for place in range(count))


def _target_count(estimator: Any, target: Any) -> int:
    if target is not None and np.ndim(target) == 2:
        return int(np.asarray(target).shape[1])
    last = estimator
    while hasattr(last, "steps") or hasattr(last, "best_estimator_"):
        last = last.steps[-1][1] if hasattr(last, "steps") else last.best_estimator_
    if hasattr(last, "n_outputs_"):
        return int(last.n_outputs_)
    if hasattr(last, "get_booster"):
        return _xgboost_targets(last)
    if hasattr(last, "get_scale_and_bias"):
        return int(np.size(last.get_scale_and_bias()[1]))
    if type(last).__name__ == "MultiOutputRegressor":
        return len(last.estimators_)
    coef = getattr(last, "coef_", None)
    return int(np.shape(coef)[0]) if coef is not None and np.ndim(coef) == 2 else 1


def _xgboost_targets(estimator: Any) -> int:
    """Several columns of the target, or several quantiles: each has a starting score."""
    learner = json.loads(estimator.get_booster().save_config())["learner"]["learner_model_param"]
    return max(int(learner["num_target"]), str(learner["base_score"]).count(",") + 1)
