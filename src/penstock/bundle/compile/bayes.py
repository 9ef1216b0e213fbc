"""Naive Bayes: the joint log likelihood of each class in double, its softmax as probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from penstock.bundle.compile.answers import Answer, label_of_largest
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.graph import Graph
from penstock.bundle.compile.numeric import numbers_only
from penstock.bundle.compile.steps import binarized


def gaussian_bayes(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """GaussianNB: the normal density of each feature in each class."""
    numbers_only(features, step)
    rows = graph.add("Unsqueeze", [graph.matrix(features), graph.constant(np.array([1], np.int64))])
    away = graph.add("Sub", [rows, graph.constant(np.asarray(estimator.theta_, np.float64)[None])])
    squared = graph.add("Mul", [away, away])
    scaled = graph.add("Div", [squared, graph.constant(np.asarray(estimator.var_, np.float64)[None])])
    total = graph.add("ReduceSum", [scaled, graph.constant(np.array([2], np.int64))], keepdims=0)
    half = graph.add("Mul", [total, graph.constant(np.array(0.5))])
    constant = -0.5 * np.sum(np.log(2.0 * np.pi * estimator.var_), axis=1)
    density = graph.add("Sub", [graph.constant(constant.reshape(1, -1)), half])
    return _answer(graph, density, np.log(estimator.class_prior_), step)


def bernoulli_bayes(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """BernoulliNB: features above `binarize` count as there."""
    numbers_only(features, step)
    if estimator.binarize is not None:
        features = binarized(graph, features, float(estimator.binarize))
    absent = np.log(1 - np.exp(estimator.feature_log_prob_))
    offset = estimator.class_log_prior_ + absent.sum(axis=1)
    return _product(graph, features, estimator.feature_log_prob_ - absent, offset=offset, step=step)


def multinomial_bayes(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """MultinomialNB: log probabilities weighted by counts."""
    numbers_only(features, step)
    weights, offset = estimator.feature_log_prob_, estimator.class_log_prior_
    return _product(graph, features, weights, offset=offset, step=step)


def complement_bayes(graph: Graph, estimator: Any, features: Features, step: str) -> Answer:
    """ComplementNB: as the multinomial one, and the prior counts for a single class only."""
    numbers_only(features, step)
    alone = len(estimator.classes_) == 1
    offset = estimator.class_log_prior_ if alone else np.zeros(len(estimator.classes_))
    return _product(graph, features, estimator.feature_log_prob_, offset=offset, step=step)


def _product(graph: Graph, features: Features, weights: np.ndarray, *, offset: np.ndarray, step: str) -> Answer:
    raw = graph.add("MatMul", [graph.matrix(features), graph.constant(np.asarray(weights, np.float64).T.copy())])
    return _answer(graph, raw, offset, step)


def _answer(graph: Graph, likelihood: str, offset: np.ndarray, step: str) -> Answer:
    width = len(offset)
    joint = graph.add("Add", [likelihood, graph.constant(np.asarray(offset, np.float64).reshape(1, -1))], width=width)
    graph.recipe.append(f"{step}: joint log likelihoods in double")
    return {
        "label": label_of_largest(graph, joint),
        "probabilities": graph.add("Softmax", [joint], width=width, axis=1),
    }
