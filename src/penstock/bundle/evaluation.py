"""How good the packed model is: metrics on the holdout, with the digest of the rows they were measured on.

Two versions can be compared only where that digest is the same. The metrics are scikit-learn's, of what the bundle
itself answers; those that the caller states are kept beside them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from penstock.bundle.digest import canonical_json, sha256
from penstock.bundle.golden import rows_of
from penstock.bundle.outputs import Outputs, OutputSpec
from penstock.errors import PackRefused
from penstock.schema import Columns, Schema


class Evaluation(msgspec.Struct, frozen=True):
    """`evaluation.json`. `metrics` were measured at packing, `stated` are the caller's own."""

    metrics: dict[str, float]
    stated: dict[str, float]
    rows: int = 0
    evaluation_set: str | None = None


def evaluate(answers: Outputs, target: np.ndarray, outputs: OutputSpec) -> dict[str, float]:
    """Metrics of `answers` against `target`, an array `[n]` of the caller's own labels or values, or `[n, t]`."""
    if outputs.kind == "classification":
        return _classification(answers, class_index(target, outputs), outputs)
    if outputs.kind == "anomaly":
        return {}
    return _regression(answers["values" if outputs.targets else "value"], np.asarray(target, dtype=float))


def class_index(target: np.ndarray, outputs: OutputSpec) -> np.ndarray:
    """The index of each label among the classes, int64 `[n]`. Raises PackRefused for a label that is no class."""
    index = {label: i for i, label in enumerate(outputs.classes)}
    labels = np.asarray(target).tolist()
    unknown = next((label for label in labels if label not in index), None)
    if unknown is not None:
        raise PackRefused("holdout", f"the target has {unknown!r}, which is no class of the model", "Check the target")
    return np.array([index[label] for label in labels], dtype=np.int64)


def truth_of(target: np.ndarray, outputs: OutputSpec) -> np.ndarray:
    """What perfect answers would be, float64 `[n, k]`: one-hot classes, or the values."""
    if outputs.kind == "classification":
        return np.asarray(np.eye(len(outputs.classes))[class_index(target, outputs)])
    return np.asarray(target, dtype=float).reshape(len(target), -1)


def evaluation_set_digest(columns: Columns, target: np.ndarray, schema: Schema) -> str:
    """The digest of the rows and targets that an evaluation stands on."""
    lines = rows_of(columns, schema)
    return sha256(canonical_json([lines, np.asarray(target).tolist()]))


def stated(metrics: Mapping[str, float] | None) -> dict[str, float]:
    """The caller's own metrics. Raises PackRefused for what is no number."""
    for name, value in (metrics or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PackRefused("evaluation", f"{name} is {value!r}, not a number", "State metrics as numbers")
    return {name: float(value) for name, value in (metrics or {}).items()}


def _classification(answers: Outputs, truth: np.ndarray, outputs: OutputSpec) -> dict[str, float]:
    from sklearn import metrics

    classes = list(range(len(outputs.classes)))
    is_binary = len(classes) == 2
    label = answers["label"]
    found = {
        "accuracy": metrics.accuracy_score(truth, label),
        "f1" if is_binary else "f1_macro": metrics.f1_score(
            truth, label, average="binary" if is_binary else "macro", zero_division=0
        ),
    }
    if outputs.has_probabilities:
        probabilities = answers["probabilities"]
        found["log_loss"] = metrics.log_loss(truth, probabilities, labels=classes)
        found["brier"] = float(np.mean(np.sum((probabilities - np.eye(len(classes))[truth]) ** 2, axis=1)))
        if is_binary:
            found["brier"] /= 2
        if len(np.unique(truth)) == len(classes):
            score = probabilities[:, 1] if is_binary else probabilities
            found["roc_auc"] = metrics.roc_auc_score(truth, score, multi_class="ovr", labels=classes)
    return {name: float(value) for name, value in sorted(found.items())}


def _regression(answers: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    from sklearn import metrics

    return {
        "mae": float(metrics.mean_absolute_error(truth, answers)),
        "r2": float(metrics.r2_score(truth, answers)),
        "rmse": float(metrics.root_mean_squared_error(truth, answers)),
    }
