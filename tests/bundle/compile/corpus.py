"""The corpus: every estimator and every preprocessing that is compiled exactly, with random hyper-parameters.

Shared by `test_corpus.py` and by `benchmarks/exactness.py`, which runs all of them against all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from customer_table import NUMBERS, TEXTS, Case, amounts, churned, levels
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, VarianceThreshold
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, NuSVR, OneClassSVM

from penstock.schema import Columns

Random: TypeAlias = np.random.Generator
Make: TypeAlias = Callable[[Random], Any]


def _seed(random: Random) -> int:
    return int(random.integers(0, 1000))


def _tree_sizes(random: Random) -> dict[str, Any]:
    return {"max_depth": int(random.integers(2, 7)), "random_state": _seed(random)}


def _forest(random: Random) -> RandomForestClassifier:
    return RandomForestClassifier(int(random.integers(4, 9)), **_tree_sizes(random))


def _logistic(random: Random) -> LogisticRegression:
    return LogisticRegression(C=float(random.uniform(0.1, 3)), max_iter=2000)


CLASSIFIERS: dict[str, Make] = {
    "LogisticRegression": _logistic,
    "RidgeClassifier": lambda r: RidgeClassifier(float(r.uniform(0.1, 3))),
    "LinearSVC": lambda r: LinearSVC(C=float(r.uniform(0.1, 2)), random_state=0),
    "SVC": lambda r: SVC(C=float(r.uniform(0.3, 3)), kernel=str(r.choice(["rbf", "poly", "linear", "sigmoid"]))),
    "SVC, probability": lambda r: SVC(C=float(r.uniform(0.3, 3)), probability=True, random_state=0),
    "NuSVC": lambda r: NuSVC(nu=float(r.uniform(0.1, 0.3)), decision_function_shape=str(r.choice(["ovo", "ovr"]))),
    "MLPClassifier": lambda r: MLPClassifier(
        tuple(r.integers(3, 9, int(r.integers(1, 3))).tolist()),
        activation=str(r.choice(["relu", "tanh", "logistic"])),
        max_iter=40,
        random_state=_seed(r),
    ),
    "GaussianNB": lambda r: GaussianNB(var_smoothing=10 ** float(r.uniform(-9, -3))),
    "BernoulliNB": lambda r: BernoulliNB(alpha=float(r.uniform(0.1, 2)), binarize=float(r.uniform(0, 20))),
    "RandomForest": _forest,
    "ExtraTrees": lambda r: ExtraTreesClassifier(int(r.integers(4, 9)), **_tree_sizes(r)),
    "GradientBoosting": lambda r: GradientBoostingClassifier(n_estimators=int(r.integers(3, 9)), random_state=0),
    "HistGradientBoosting": lambda r: HistGradientBoostingClassifier(max_iter=int(r.integers(3, 9)), max_leaf_nodes=9),
    "AdaBoost": lambda r: AdaBoostClassifier(n_estimators=int(r.integers(3, 9)), random_state=_seed(r)),
    "Bagging of trees": lambda r: BaggingClassifier(n_estimators=6, max_features=0.7, random_state=_seed(r)),
    "Bagging of LinearSVC": lambda r: BaggingClassifier(
        LinearSVC(random_state=0), n_estimators=3, max_features=0.7, random_state=_seed(r)
    ),
    "Voting, soft": lambda r: VotingClassifier(
        [("a", _logistic(r)), ("b", _forest(r)), ("c", GaussianNB())], voting="soft", weights=r.uniform(0.5, 2, 3)
    ),
    "Voting, hard": lambda r: VotingClassifier([("a", _logistic(r)), ("b", _forest(r)), ("c", GaussianNB())]),
    "Stacking": lambda r: StackingClassifier(
        [("a", _forest(r)), ("b", LinearSVC(random_state=0))], final_estimator=_logistic(r), cv=2
    ),
    "Calibrated, sigmoid": lambda r: CalibratedClassifierCV(_forest(r), cv=2),
    "Calibrated, isotonic": lambda r: CalibratedClassifierCV(LinearSVC(random_state=0), method="isotonic", cv=2),
    "OneVsRest": lambda r: OneVsRestClassifier(_forest(r)),
    "KNeighbors": lambda r: KNeighborsClassifier(int(r.integers(2, 7))),
    "LinearDiscriminantAnalysis": lambda r: LinearDiscriminantAnalysis(),
}

COUNTED: dict[str, Make] = {
    "MultinomialNB": lambda r: MultinomialNB(alpha=float(r.uniform(0.1, 2))),
    "ComplementNB": lambda r: ComplementNB(alpha=float(r.uniform(0.1, 2)), norm=bool(r.integers(2))),
}
"""Classifiers of counts: they come behind a scaler to 0..1."""

REGRESSORS: dict[str, Make] = {
    "LinearRegression": lambda r: LinearRegression(),
    "Ridge": lambda r: Ridge(float(r.uniform(0.1, 3))),
    "SVR": lambda r: SVR(C=float(r.uniform(0.5, 5)), kernel=str(r.choice(["rbf", "linear"]))),
    "NuSVR": lambda r: NuSVR(nu=float(r.uniform(0.2, 0.8))),
    "MLPRegressor": lambda r: MLPRegressor(
        hidden_layer_sizes=(int(r.integers(3, 9)),), max_iter=40, random_state=_seed(r)
    ),
    "RandomForest": lambda r: RandomForestRegressor(int(r.integers(3, 8)), **_tree_sizes(r)),
    "ExtraTrees": lambda r: ExtraTreesRegressor(int(r.integers(3, 8)), **_tree_sizes(r)),
    "GradientBoosting": lambda r: GradientBoostingRegressor(n_estimators=int(r.integers(3, 9)), random_state=0),
    "HistGradientBoosting": lambda r: HistGradientBoostingRegressor(max_iter=int(r.integers(3, 9)), max_leaf_nodes=9),
    "AdaBoost": lambda r: AdaBoostRegressor(n_estimators=int(r.integers(3, 9)), random_state=_seed(r)),
    "Bagging": lambda r: BaggingRegressor(n_estimators=5, max_features=0.7, max_samples=0.5, random_state=_seed(r)),
    "Voting": lambda r: VotingRegressor([("a", Ridge()), ("b", RandomForestRegressor(3, **_tree_sizes(r)))]),
    "Stacking": lambda r: StackingRegressor([("a", Ridge()), ("b", RandomForestRegressor(3, **_tree_sizes(r)))], cv=2),
    "TransformedTarget": lambda r: TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
}

MANY: dict[str, Make] = {
    "MultiOutput": lambda r: MultiOutputRegressor(GradientBoostingRegressor(n_estimators=3, random_state=0)),
    "RandomForest, two targets": lambda r: RandomForestRegressor(4, **_tree_sizes(r)),
    "LinearRegression, two targets": lambda r: LinearRegression(),
}

DETECTORS: dict[str, Make] = {
    "IsolationForest": lambda r: IsolationForest(n_estimators=10, contamination=0.1, random_state=_seed(r)),
    "OneClassSVM": lambda r: OneClassSVM(nu=float(r.uniform(0.05, 0.3))),
}

IMPUTER: Make = lambda r: SimpleImputer(strategy=str(r.choice(["mean", "median", "most_frequent"])))  # noqa: E731

NUMERIC: dict[str, Make] = {
    "StandardScaler": lambda r: [IMPUTER(r), StandardScaler()],
    "MinMaxScaler": lambda r: [IMPUTER(r), MinMaxScaler(clip=True)],
    "RobustScaler": lambda r: [IMPUTER(r), RobustScaler()],
    "add_indicator": lambda r: [SimpleImputer(add_indicator=True), StandardScaler()],
    "log1p": lambda r: [IMPUTER(r), FunctionTransformer(np.log1p), StandardScaler()],
    "Binarizer": lambda r: [IMPUTER(r), Binarizer(threshold=float(r.uniform(5, 40)))],
    "KBins": lambda r: [IMPUTER(r), KBinsDiscretizer(int(r.integers(3, 7)), strategy="kmeans", random_state=0)],
    "KBins, ordinal": lambda r: [
        IMPUTER(r),
        KBinsDiscretizer(int(r.integers(3, 7)), encode="ordinal", strategy="uniform"),
        StandardScaler(),
    ],
    "QuantileTransformer": lambda r: [
        IMPUTER(r),
        QuantileTransformer(
            n_quantiles=int(r.integers(10, 60)),
            output_distribution=str(r.choice(["uniform", "normal"])),
            random_state=0,
        ),
    ],
    "PowerTransformer": lambda r: [IMPUTER(r), PowerTransformer(standardize=bool(r.integers(2)))],
    "PolynomialFeatures": lambda r: [
        IMPUTER(r),
        StandardScaler(),
        PolynomialFeatures(int(r.integers(2, 4)), interaction_only=bool(r.integers(2))),
    ],
    "Normalizer": lambda r: [IMPUTER(r), StandardScaler(), Normalizer(str(r.choice(["l1", "l2", "max"])))],
    "PCA": lambda r: [IMPUTER(r), StandardScaler(), PCA(2, whiten=bool(r.integers(2)), random_state=0)],
    "TruncatedSVD": lambda r: [IMPUTER(r), StandardScaler(), TruncatedSVD(2, random_state=0)],
    "SelectKBest": lambda r: [IMPUTER(r), StandardScaler(), SelectKBest(k=2)],
    "SelectFromModel": lambda r: [IMPUTER(r), StandardScaler(), SelectFromModel(Ridge(), max_features=2)],
    "VarianceThreshold": lambda r: [IMPUTER(r), StandardScaler(), VarianceThreshold()],
    "RFE": lambda r: [IMPUTER(r), StandardScaler(), RFE(Ridge(), n_features_to_select=2)],
    "SplineTransformer": lambda r: [IMPUTER(r), SplineTransformer(n_knots=int(r.integers(3, 6)))],
    "KNNImputer": lambda r: [KNNImputer(n_neighbors=int(r.integers(2, 5))), StandardScaler()],
    "IterativeImputer": lambda r: [IterativeImputer(max_iter=3, random_state=0), StandardScaler()],
}

TEXTUAL: dict[str, Make] = {
    "OneHotEncoder": lambda r: OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    "OneHotEncoder, drop first": lambda r: OneHotEncoder(drop="first", handle_unknown="ignore", sparse_output=False),
    "OneHotEncoder, infrequent": lambda r: OneHotEncoder(
        min_frequency=float(r.uniform(0.2, 0.26)), handle_unknown="infrequent_if_exist", sparse_output=False
    ),
    "OrdinalEncoder": lambda r: OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    ),
    "TargetEncoder": lambda r: TargetEncoder(cv=2, shuffle=True, random_state=0),
}


def pipeline_of(numeric: Any, textual: Any, model: Any) -> Pipeline:
    """Steps for the numbers, an encoder for the texts, a model."""
    columns = ColumnTransformer(
        [("numbers", make_pipeline(*numeric), NUMBERS), ("texts", textual, TEXTS)], sparse_threshold=0
    )
    return Pipeline([("preprocess", columns), ("model", model)])


def target_of(name: str, frame: pd.DataFrame, random: Random, *, is_numeric: bool) -> Any:
    """What an estimator of the corpus is fitted on; classifiers get two classes, or three texts."""
    if name in MANY:
        return np.column_stack([amounts(frame), frame["age"]])
    if name in DETECTORS:
        return None
    if name in CLASSIFIERS or name in COUNTED:
        return churned(frame) if is_numeric or random.integers(2) else levels(frame)
    return amounts(frame)


def independent_rows(frame: pd.DataFrame, trained: pd.DataFrame, random: Random) -> pd.DataFrame:
    """Rows that the model never saw, and such rows with one value on or one double beside a training value, between two
    training values, gone, or unknown. None of it is the proof's own code.
    """
    parts = [frame]
    for name in ("age", "income"):
        known = np.sort(trained[name].dropna().to_numpy())
        between = (known[1:] + known[:-1]) / 2
        for values in (known, np.nextafter(known, np.inf), np.nextafter(known, -np.inf), between):
            part = frame.iloc[random.integers(0, len(frame), 25)].copy()
            part[name] = random.choice(values, 25)
            parts.append(part)
    gone = frame.iloc[random.integers(0, len(frame), 20)].copy()
    gone["income"], gone["city"] = np.nan, np.nan
    unknown = frame.iloc[random.integers(0, len(frame), 10)].copy()
    unknown["city"] = "never seen"
    return pd.concat([*parts, gone, unknown], ignore_index=True)


def differences(case: Case, rows: Columns) -> tuple[float, int]:
    """The largest difference of the graph from the original (of values: relative), and how many labels differ."""
    expected, got = case.original.run(rows), case.graph.run(rows)
    flips = int((expected["label"] != got["label"]).sum()) if "label" in expected else 0
    largest = 0.0
    for name in expected:
        if name != "label":
            gap = np.abs(expected[name] - got[name])
            gap = gap if name == "probabilities" else gap / np.maximum(np.abs(expected[name]), 1.0)
            largest = max(largest, float(gap.max()))
    return largest, flips
