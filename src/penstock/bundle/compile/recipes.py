"""Which of scikit-learn's classes is written by which function, beside those that `lower.py` names.

Composites get `lower`, which writes the estimators inside them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    IsolationForest,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM

from penstock.bundle.compile import (
    bayes,
    committees,
    curves,
    encoders,
    isolation,
    perceptron,
    selection,
    stacks,
    steps,
    support,
    words,
)
from penstock.bundle.compile.answers import Answer
from penstock.bundle.compile.committees import Lower
from penstock.bundle.compile.feature import Features
from penstock.bundle.compile.graph import Graph

Transform: TypeAlias = Callable[[Graph, Any, Features, str], Features]
Finish: TypeAlias = Callable[[Graph, Any, Features, str], Answer]

_TRANSFORMS: dict[type, Transform] = {
    Binarizer: steps.binarizer,
    CountVectorizer: words.count_vectorizer,
    IncrementalPCA: selection.projection,
    KBinsDiscretizer: steps.bins_discretizer,
    Normalizer: selection.normalizer,
    PCA: selection.projection,
    PolynomialFeatures: selection.polynomial_features,
    PowerTransformer: curves.power_transformer,
    QuantileTransformer: curves.quantile_transformer,
    SplineTransformer: curves.spline_transformer,
    TargetEncoder: encoders.target_encoder,
    TfidfVectorizer: words.tfidf_vectorizer,
    TruncatedSVD: selection.projection,
}

_FINISHES: dict[type, Finish] = {
    BernoulliNB: bayes.bernoulli_bayes,
    ComplementNB: bayes.complement_bayes,
    GaussianNB: bayes.gaussian_bayes,
    IsolationForest: isolation.isolation_forest,
    MLPClassifier: perceptron.perceptron_classifier,
    MLPRegressor: perceptron.perceptron_regressor,
    MultinomialNB: bayes.multinomial_bayes,
    NuSVC: support.support_classifier,
    NuSVR: support.support_regressor,
    OneClassSVM: support.support_anomaly,
    SVC: support.support_classifier,
    SVR: support.support_regressor,
}

_COMPOSITES: dict[type, Callable[..., Answer]] = {
    AdaBoostClassifier: committees.adaboost_classifier,
    AdaBoostRegressor: committees.adaboost_regressor,
    BaggingClassifier: committees.bagging_classifier,
    BaggingRegressor: committees.bagging_regressor,
    CalibratedClassifierCV: stacks.calibrated,
    FrozenEstimator: stacks.frozen,
    MultiOutputRegressor: stacks.several_targets,
    OneVsRestClassifier: stacks.one_against_rest,
    StackingClassifier: stacks.stacked,
    StackingRegressor: stacks.stacked,
    TransformedTargetRegressor: stacks.moved_target,
    VotingClassifier: committees.voting_classifier,
    VotingRegressor: committees.voting_regressor,
}


def transform_of(transformer: Any) -> Transform | None:
    """The function that writes a transformer exactly, if there is one."""
    found = _TRANSFORMS.get(type(transformer))
    return selection.selected if found is None and selection.is_selector(transformer) else found


def finish_of(estimator: Any, lower: Lower) -> Finish | None:
    """The function that writes a final estimator exactly, if there is one."""
    composite = _COMPOSITES.get(type(estimator))
    return _FINISHES.get(type(estimator)) if composite is None else partial(composite, lower=lower)
