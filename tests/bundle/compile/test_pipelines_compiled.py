"""Pipelines that are compiled, each proven exact: estimators by preprocessing, on a table with missing values."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
from customer_table import NUMBERS, TEXTS, amounts, churned, compiled, customers, levels, open_schema, piped
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from penstock.schema import Field, Schema

ONE_HOT = OneHotEncoder(handle_unknown="ignore")
ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)

CLASSIFIERS = {
    "logistic": LogisticRegression(max_iter=500),
    "ridge": RidgeClassifier(),
    "svc": LinearSVC(),
    "sgd": SGDClassifier(loss="log_loss", random_state=0),
    "tree": DecisionTreeClassifier(min_samples_leaf=3, random_state=0),
    "forest": RandomForestClassifier(15, min_samples_leaf=2, random_state=0),
    "large forest": RandomForestClassifier(60, random_state=0),
    "extra": ExtraTreesClassifier(10, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=10, random_state=0),
    "exponential": GradientBoostingClassifier(n_estimators=10, loss="exponential", random_state=0),
    "histogram": HistGradientBoostingClassifier(max_iter=10, random_state=0),
}

REGRESSORS = {
    "linear": LinearRegression(),
    "ridge": Ridge(),
    "lasso": Lasso(0.01),
    "elastic": ElasticNet(0.01),
    "sgd": SGDRegressor(random_state=0),
    "tree": DecisionTreeRegressor(random_state=0),
    "forest": RandomForestRegressor(10, random_state=0),
    "extra": ExtraTreesRegressor(10, random_state=0),
    "boosting": GradientBoostingRegressor(n_estimators=15, random_state=0),
    "huber": GradientBoostingRegressor(n_estimators=15, loss="huber", random_state=0),
    "histogram": HistGradientBoostingRegressor(max_iter=15, random_state=0),
    "poisson": HistGradientBoostingRegressor(max_iter=15, loss="poisson", random_state=0),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("target", [churned, levels])
def test_classifiers_are_exact(name: str, target: Any) -> None:
    """Classifiers of two and of three classes behind imputer, scaler and one-hot give the original's answers."""
    if name == "exponential" and target is levels:
        pytest.skip("scikit-learn has the exponential loss for two classes only")
    frame = customers(400)
    pipeline = piped([SimpleImputer(), StandardScaler()], ONE_HOT, CLASSIFIERS[name]).fit(frame, target(frame))
    proof = compiled(pipeline, frame).proof(60)
    assert (True, 0, 0) == (proof.is_exact, proof.flips, proof.wrong)


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_are_exact(name: str) -> None:
    """Regressors behind imputer, scaler and one-hot give the original's values."""
    frame = customers(400)
    pipeline = piped([SimpleImputer(), StandardScaler()], ONE_HOT, REGRESSORS[name]).fit(frame, amounts(frame))
    assert compiled(pipeline, frame).proof(60).is_exact


PREPROCESSING = {
    "median, min-max": ([SimpleImputer(strategy="median"), MinMaxScaler()], ONE_HOT),
    "clipped min-max": ([SimpleImputer(), MinMaxScaler(clip=True)], ONE_HOT),
    "max-abs": ([SimpleImputer(strategy="most_frequent"), MaxAbsScaler()], ONE_HOT),
    "robust": ([SimpleImputer(), RobustScaler(unit_variance=True)], ONE_HOT),
    "constant": ([SimpleImputer(strategy="constant", fill_value=-7.5)], ORDINAL),
    "indicator": ([SimpleImputer(add_indicator=True)], ONE_HOT),
    "text imputer": ([SimpleImputer()], [SimpleImputer(strategy="most_frequent"), ONE_HOT]),
    "constant text": ([SimpleImputer()], [SimpleImputer(strategy="constant", fill_value="none"), ORDINAL]),
    "first dropped": ([SimpleImputer()], OneHotEncoder(drop="first", handle_unknown="ignore")),
    "binary dropped": ([SimpleImputer()], OneHotEncoder(drop="if_binary", handle_unknown="ignore")),
    "infrequent": ([SimpleImputer()], OneHotEncoder(min_frequency=0.23, handle_unknown="infrequent_if_exist")),
    "ordinal with NaN": (
        [SimpleImputer()],
        [
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
            SimpleImputer(strategy="most_frequent"),
        ],
    ),
    "log1p": ([SimpleImputer(), FunctionTransformer(np.log1p), StandardScaler()], ONE_HOT),
    "exp and clip": (
        [SimpleImputer(), FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 60}), FunctionTransformer(np.exp)],
        ONE_HOT,
    ),
    "sqrt of abs": ([SimpleImputer(), FunctionTransformer(np.abs), FunctionTransformer(np.sqrt)], ONE_HOT),
    "one-hot numbers": ([SimpleImputer(), StandardScaler()], ONE_HOT),
    "union": (
        [SimpleImputer(), FeatureUnion([("a", StandardScaler()), ("b", MinMaxScaler())], transformer_weights={"a": 3})],
        ONE_HOT,
    ),
}


@pytest.mark.parametrize("name", PREPROCESSING)
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(solver="newton-cholesky"),
        RandomForestClassifier(10, random_state=0),
        HistGradientBoostingClassifier(max_iter=8, random_state=0),
    ],
    ids=["logistic", "forest", "histogram"],
)
def test_preprocessing_is_exact(name: str, model: Any) -> None:
    """Every supported preprocessing is exact before a linear model, a float32 forest and a float64 boosting."""
    frame = customers(250)
    numbers, texts = PREPROCESSING[name]
    if name == "exp and clip" and isinstance(model, LogisticRegression):
        pytest.skip("numbers of 1e26 have no converging logistic regression")
    pipeline = piped(numbers, texts, model).fit(frame, churned(frame))
    proof = compiled(pipeline, frame).proof(40)
    assert (True, 0) == (proof.is_exact, proof.flips)


def test_column_choices() -> None:
    """Names, lists, slices, masks and selectors choose columns, remainder passes through, another is dropped."""
    frame = customers()
    columns = ColumnTransformer(
        [
            ("by slice", SimpleImputer(), slice(0, 2)),
            ("by mask", ONE_HOT, [False, False, False, True, False]),
            ("by selector", ORDINAL, make_column_selector(pattern="pl")),
            ("gone", "drop", [0]),
        ],
        remainder="passthrough",
    )
    pipeline = Pipeline([("columns", columns), ("model", RandomForestClassifier(10, random_state=0))])
    assert compiled(pipeline.fit(frame, churned(frame)), frame).proof().is_exact


def test_nested_pipelines() -> None:
    """A ColumnTransformer after a ColumnTransformer, in a pipeline in a pipeline in a search."""
    frame = customers()
    first = make_column_transformer((SimpleImputer(), NUMBERS), (ORDINAL, TEXTS))
    second = make_column_transformer((StandardScaler(), [0, 1]), (OneHotEncoder(handle_unknown="ignore"), [3, 4]))
    inner = make_pipeline(second, GradientBoostingClassifier(n_estimators=5))
    search = GridSearchCV(make_pipeline(first, inner), {}, cv=2).fit(frame, churned(frame))
    assert compiled(search, frame).proof().is_exact


def test_bare_estimator_on_frame() -> None:
    """An estimator without a pipeline takes the frame's columns as they are, missing values included."""
    frame = customers()[NUMBERS]
    model = HistGradientBoostingRegressor(max_iter=20).fit(frame, amounts(customers()))
    assert compiled(model, frame).proof().is_exact


def test_estimator_on_array() -> None:
    """A pipeline that was fitted on a plain array gets its columns in the schema's order."""
    array = customers()[NUMBERS].fillna(0).to_numpy()
    pipeline = make_pipeline(StandardScaler(), RandomForestRegressor(10, random_state=0)).fit(array, array[:, 0] * 2)
    frame = pd.DataFrame(array, columns=["x0", "x1", "x2"])
    assert compiled(pipeline, frame).proof().is_exact


def test_float32_columns() -> None:
    """Columns that were float32 at training are compared in float32, with float32 arithmetic in the scaler."""
    frame = customers()[["age", "visits"]].astype(np.float32)
    pipeline = make_pipeline(MinMaxScaler(), FunctionTransformer(np.log1p), HistGradientBoostingClassifier(max_iter=9))
    proof = compiled(pipeline.fit(frame, churned(customers())), frame).proof()
    assert (True, "float32") == (proof.is_exact, str(frame["age"].dtype))


def test_bool_and_nullable_int_columns() -> None:
    """Bools, ints with missing values (Int64) and a number that stands for missing reach the trees as at training."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "flag": random.random(300) < 0.5,
            "count": pd.array(random.integers(0, 9, 300), dtype="Int64"),
            "days": np.where(random.random(300) < 0.3, -1.0, random.random(300) * 50),
        }
    )
    frame.loc[::7, "count"] = pd.NA
    fields = (
        Field(name="flag", type="bool", dtype="bool"),
        Field(name="count", type="int", nullable=True, dtype="Int64", null_as="na"),
        Field(name="days", type="float", nullable=True, dtype="float64", null_as="value", null_value=-1.0),
    )
    target = frame["flag"].to_numpy() ^ (frame["days"].to_numpy() > 20)
    model = RandomForestClassifier(12, random_state=0).fit(frame, target)
    case = compiled(model, frame, Schema(fields=fields))
    assert (True, (False, True)) == (case.proof().is_exact, case.original.outputs.classes)


def test_own_categories_of_hist_gradient_boosting() -> None:
    """Pandas categories, which HistGradientBoosting splits by sets of codes, are exact; unknown ones are as missing."""
    frame = customers().astype({"city": "category", "plan": "category"})
    model = HistGradientBoostingClassifier(max_iter=25, min_samples_leaf=5).fit(frame, churned(customers()))
    proof = compiled(model, frame).proof()
    assert (True, True) == (proof.is_exact, proof.rows["unknown"] > 0)


def test_several_targets() -> None:
    """A forest and a linear model of two targets give `values` with one column each."""
    frame = customers()
    targets = np.column_stack([amounts(frame), frame["age"]])
    for model in (RandomForestRegressor(5, random_state=0), LinearRegression()):
        case = compiled(piped(SimpleImputer(), ONE_HOT, model).fit(frame, targets), frame)
        assert (True, ("y0", "y1")) == (case.proof().is_exact, case.original.outputs.targets)


def test_neural_network_by_its_usual_converter() -> None:
    """What has no writing of ours goes through skl2onnx, and is used when the proof passes."""
    frame = customers()
    model = MLPClassifier((5,), solver="lbfgs", max_iter=1000, tol=1e-2, random_state=0)
    pipeline = piped([SimpleImputer(), StandardScaler()], ONE_HOT, model).fit(frame, levels(frame))
    assert compiled(pipeline, frame).proof().is_exact


def test_unused_fields_are_no_inputs() -> None:
    """A field that the pipeline drops is not asked of the graph's caller."""
    frame = customers()
    pipeline = make_pipeline(
        ColumnTransformer([("n", "passthrough", ["age"])]), LogisticRegression().set_params(max_iter=300)
    ).fit(frame, churned(frame))
    case = compiled(pipeline, frame, open_schema(frame))
    only_age = {"age": case.columns["age"]}
    expected = case.original.run(case.columns)["label"].tolist()
    assert expected == case.graph.run(only_age)["label"].tolist()


@pytest.mark.parametrize("name", ["large forest", "boosting", "histogram"])
def test_row_alone_and_in_batch(name: str) -> None:
    """A row gets the same bits alone, in a small batch and in a large one: batching never shows in an answer."""
    frame = customers()
    pipeline = piped([SimpleImputer(), StandardScaler()], ONE_HOT, CLASSIFIERS[name]).fit(frame, churned(frame))
    case = compiled(pipeline, frame)
    whole = case.graph.run(case.columns)["probabilities"]
    for size in (1, 7, 64):
        part = case.graph.run({field: column[:size] for field, column in case.columns.items()})["probabilities"]
        assert whole[:size].tolist() == part.tolist()


def tied_forest(seed: int) -> RandomForestClassifier:
    """A forest in which each tree has a twin with the classes exchanged: every row is a tie, but for the rounding."""
    random = np.random.default_rng(seed)
    rows = random.random((500, 2))
    model = RandomForestClassifier(60, max_depth=6, random_state=seed)
    model.fit(pd.DataFrame(rows, columns=["x", "z"]), random.integers(0, 2, 500))
    for member in list(model.estimators_):
        share = random.random(member.tree_.node_count)
        member.tree_.value[:, 0, :] = np.column_stack([share, 1 - share])
        twin = copy.deepcopy(member)
        twin.tree_.value[:, 0, :] = member.tree_.value[:, 0, ::-1]
        model.estimators_.append(twin)
    random.shuffle(model.estimators_)
    return model


@pytest.mark.parametrize("seed", range(3))
def test_ties_of_classes(seed: int) -> None:
    """Where two classes tie, the rounding of the original's own sums decides the label, and the graph has the same."""
    frame = pd.DataFrame(np.random.default_rng(9).random((2000, 2)), columns=["x", "z"])
    case = compiled(tied_forest(seed), frame)
    expected = case.original.run(case.columns)
    assert (expected["label"] == 1).any() and (expected["label"] == 0).any()
    assert np.abs(expected["probabilities"] - 0.5).max() < 1e-12
    assert expected["label"].tolist() == case.graph.run(case.columns)["label"].tolist()
