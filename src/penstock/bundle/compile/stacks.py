"""Estimators on the answers of others: stacking, calibration, one against the rest, several targets, moved targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.bundle.compile.answers import Answer, column_of, complement, label_of_largest, label_where
from penstock.bundle.compile.committees import Lower, as_column, members_of, part_of, places_among, summed
from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.fractions import mean_of
from penstock.bundle.compile.functions import affine
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.lines import interpolated
from penstock.bundle.compile.refusal import NotCompilable, within


def response_of(graph: Graph, estimator: Any, answer: Answer, step: str) -> str:
    """What scikit-learn takes of an inner classifier: its scores where it has them, else its probabilities (of two
    classes the second one's alone).
    """
    if hasattr(estimator, "decision_function"):
        return part_of(answer, "scores", step)
    probabilities = part_of(answer, "probabilities", step)
    return graph.gather(probabilities, [1]) if graph.widths[probabilities] == 2 else probabilities


def stacked(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """StackingClassifier and StackingRegressor: the last estimator on the answers of the first ones."""
    made: Features = ()
    places = (name for name, member in estimator.estimators if member != "drop")
    for name, member, method in zip(places, estimator.estimators_, estimator.stack_method_, strict=True):
        answer = lower(graph, member, features, within(step, name))
        made += _columns(graph, _stacked_part(graph, member, answer, method=method, step=within(step, name)))
    if estimator.passthrough:
        made += features
    graph.recipe.append(f"{step}: the last estimator on {len(made)} columns")
    return lower(graph, estimator.final_estimator_, made, within(step, "final_estimator"))


def _columns(graph: Graph, tensor: str) -> Features:
    return tuple(Feature(tensor=tensor, index=index, kind="number") for index in range(graph.widths[tensor]))


def _stacked_part(graph: Graph, member: Any, answer: Answer, *, method: str, step: str) -> str:
    if method == "decision_function":
        return part_of(answer, "scores", step)
    if method == "predict_proba":
        probabilities = part_of(answer, "probabilities", step)
        return graph.gather(probabilities, [1]) if graph.widths[probabilities] == 2 else probabilities
    if "values" in answer and "value" not in answer:
        return answer["values"]
    if "value" in answer:
        return as_column(graph, answer["value"])
    labels = np.asarray(member.classes_, np.float64)
    return graph.add("Gather", [graph.constant(labels), as_column(graph, answer["label"])], width=1, axis=0)


def calibrated(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """CalibratedClassifierCV: the mean of the calibrated probabilities of its classifiers."""
    classes = len(estimator.classes_)
    parts = [_calibrated_one(graph, one, features, step=step, lower=lower) for one in estimator.calibrated_classifiers_]
    mean = mean_of(graph, summed(graph, parts), len(parts))
    graph.widths[mean] = classes
    graph.recipe.append(f"{step}: {len(parts)} classifiers, calibrated in double")
    return {"label": label_of_largest(graph, mean), "probabilities": mean}


def frozen(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """FrozenEstimator: what it holds."""
    return lower(graph, estimator.estimator, features, step)


def _calibrated_one(graph: Graph, one: Any, features: Features, *, step: str, lower: Lower) -> str:
    inner = one.estimator
    answer = lower(graph, inner, features, within(step, type(inner).__name__))
    response = response_of(graph, inner, answer, step)
    if one.method not in ("sigmoid", "isotonic"):
        raise NotCompilable(step, f"calibration by {one.method}")
    if len(one.classes) == 2:
        return complement(graph, _curve(graph, one.calibrators[0], response, step))
    if places_among(inner.classes_, one.classes) != list(range(len(one.classes))):
        raise NotCompilable(step, "a classifier inside that never saw one of the classes")
    each = [_curve(graph, curve, graph.gather(response, [place]), step) for place, curve in enumerate(one.calibrators)]
    return normalised(graph, graph.add("Concat", each, width=len(each), axis=1), is_even=True)


def normalised(graph: Graph, tensor: str, *, is_even: bool) -> str:
    """Each row divided by its sum; a row of zeros stays, or becomes even shares."""
    width = graph.widths[tensor]
    total = graph.add("ReduceSum", [tensor, graph.constant(np.array([1], np.int64))], keepdims=1)
    none = graph.add("Equal", [total, graph.constant(np.array(0.0))])
    whole = graph.add("Where", [none, graph.constant(np.array(1.0)), total], width=1)
    shares = graph.add("Div", [tensor, whole], width=width)
    return graph.add("Where", [none, graph.constant(np.array(1 / width)), shares], width=width) if is_even else shares


def _curve(graph: Graph, calibrator: Any, response: str, step: str) -> str:
    """One calibrator's probability `[n, 1]` of one score."""
    if hasattr(calibrator, "a_"):
        scaled = graph.add("Mul", [graph.constant(np.array(float(calibrator.a_))), response], width=1)
        moved = graph.add("Add", [scaled, graph.constant(np.array(float(calibrator.b_)))], width=1)
        return graph.add("Sigmoid", [graph.add("Neg", [moved])], width=1)
    if not hasattr(calibrator, "X_thresholds_") or calibrator.out_of_bounds != "clip":
        raise NotCompilable(step, f"calibration by {type(calibrator).__name__}")
    return isotonic(graph, calibrator, response)


def isotonic(graph: Graph, fitted: Any, tensor: str) -> str:
    """IsotonicRegression of `[n, 1]`: straight lines between the fitted points, level beyond them."""
    return interpolated(graph, tensor, np.asarray(fitted.X_thresholds_), np.asarray(fitted.y_thresholds_))


def one_against_rest(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """OneVsRestClassifier: the class whose own classifier scores highest."""
    if estimator.multilabel_:
        raise NotCompilable(step, "several labels a row")
    if any(not hasattr(member, "classes_") for member in estimator.estimators_):
        raise NotCompilable(step, "a class of its own has no classifier")
    answers = members_of(graph, estimator, features, step=step, lower=lower)
    pairs = list(zip(estimator.estimators_, answers, strict=True))
    each = [response_of(graph, member, answer, step) for member, answer in pairs]
    graph.recipe.append(f"{step}: {len(each)} classifiers, one against the rest")
    has_scores = hasattr(estimator.estimators_[0], "decision_function")
    if len(each) == 1:
        return _of_two(graph, answers[0], each[0], has_scores=has_scores)
    scores = graph.add("Concat", each, width=len(each), axis=1)
    answer = {"label": label_of_largest(graph, scores)}
    if has_scores:
        answer["scores"] = scores
    if hasattr(estimator, "predict_proba"):
        second = [graph.gather(part_of(one, "probabilities", step), [1]) for one in answers]
        joined = graph.add("Concat", second, width=len(second), axis=1)
        answer["probabilities"] = normalised(graph, joined, is_even=False)
    return answer


def _of_two(graph: Graph, inner: Answer, response: str, *, has_scores: bool) -> Answer:
    threshold = graph.constant(np.array(0.0 if has_scores else 0.5))
    answer = {"label": label_where(graph, "Greater", graph.add("Sub", [response, threshold], width=1))}
    if "probabilities" in inner:
        answer["probabilities"] = complement(graph, graph.gather(inner["probabilities"], [1]))
    return {**answer, "scores": response} if has_scores else answer


def several_targets(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """MultiOutputRegressor: one regressor for each target, side by side."""
    answers = members_of(graph, estimator, features, step=step, lower=lower)
    columns = [as_column(graph, part_of(answer, "value", step)) for answer in answers]
    if len(columns) == 1:
        return {"values": columns[0], "value": column_of(graph, columns[0])}
    return {"values": graph.add("Concat", columns, width=len(columns), axis=1)}


def moved_target(graph: Graph, estimator: Any, features: Features, step: str, *, lower: Lower) -> Answer:
    """TransformedTargetRegressor: the inner value, taken back by `exp`, `expm1` or a scaler's own inverse."""
    answer = lower(graph, estimator.regressor_, features, within(step, "regressor"))
    value = as_column(graph, part_of(answer, "value", step))
    back = estimator.transformer_
    inverse = getattr(back, "inverse_func", None)
    if type(back).__name__ == "FunctionTransformer" and inverse in (None, np.exp, np.expm1):
        if inverse is not None:
            value = graph.add("Exp", [value], width=1)
        if inverse is np.expm1:
            value = graph.add("Sub", [value, graph.constant(np.array(1.0))], width=1)
    elif type(back).__name__ == "StandardScaler":
        one: Features = (Feature(tensor=value, index=0, kind="number"),)
        one = affine(graph, one, "Mul", np.asarray(back.scale_)) if back.with_std else one
        one = affine(graph, one, "Add", np.asarray(back.mean_)) if back.with_mean else one
        value = graph.matrix(one)
    else:
        raise NotCompilable(step, f"a target taken back by {getattr(inverse, '__name__', type(back).__name__)}")
    graph.recipe.append(f"{step}: the target taken back in double")
    return {"value": column_of(graph, value)}
