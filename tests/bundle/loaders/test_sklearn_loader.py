"""The native loader: answers, output declarations, trusted types, and skops files that are always the same bytes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from penstock.bundle.frame import columns_of
from penstock.bundle.loaders.sklearn import SklearnPredictor, dump_skops, load_sklearn, output_spec
from penstock.errors import BundleRefused, ModelFailed, PackRefused
from penstock.schema import Field, Schema

HERE = Path(__file__)
FRAME = pd.DataFrame({"x": np.arange(60) % 17 * 1.5, "c": ["a", "b", "c"] * 20})
SCHEMA = Schema(
    fields=(
        Field(name="x", type="float", dtype="float64"),
        Field(name="c", type="category", allowed=("a", "b", "c"), dtype="object"),
    )
)
TARGET = (FRAME["x"] > 11).to_numpy() ^ (FRAME["c"] == "b").to_numpy()


def pipeline(model: Any, numbers: Any = None) -> Pipeline:
    """A pipeline of both columns."""
    columns = ColumnTransformer([("n", numbers or StandardScaler(), ["x"]), ("c", OneHotEncoder(), ["c"])])
    return Pipeline([("columns", columns), ("model", model)])


class Doubler(TransformerMixin, BaseEstimator):
    """A step of the user's own."""

    def fit(self, rows: Any, target: Any = None) -> Doubler:
        """Nothing to learn."""
        self.fitted_ = True
        return self

    def transform(self, rows: Any) -> Any:
        """Twice the rows."""
        return rows * 2


@pytest.mark.parametrize("labels", [(False, True), (0, 1), ("no", "yes")], ids=["bool", "int", "text"])
def test_labels_are_places_of_classes(labels: tuple[Any, Any]) -> None:
    """Classes keep their Python type, the label is the place of what `predict` says, probabilities are its own."""
    target = np.where(TARGET, labels[1], labels[0])
    fitted = pipeline(RandomForestClassifier(5, random_state=0)).fit(FRAME, target)
    spec = output_spec(fitted)
    answers = SklearnPredictor(fitted, SCHEMA, spec).run(columns_of(FRAME, SCHEMA))
    assert (labels, type(labels[1])) == (spec.classes, type(spec.classes[1]))
    assert fitted.predict(FRAME).tolist() == [spec.classes[place] for place in answers["label"]]
    assert fitted.predict_proba(FRAME).tolist() == answers["probabilities"].tolist()


def test_regression_and_several_targets() -> None:
    """One target gives `value`, several give `values` with the target's names."""
    two = pd.DataFrame({"up": FRAME["x"], "down": -FRAME["x"]})
    one, both = (pipeline(LinearRegression()).fit(FRAME, target) for target in (FRAME["x"], two))
    columns = columns_of(FRAME, SCHEMA)
    assert (60,) == SklearnPredictor(one, SCHEMA, output_spec(one)).run(columns)["value"].shape
    spec = output_spec(both, two)
    assert (("up", "down"), (60, 2)) == (
        spec.targets,
        SklearnPredictor(both, SCHEMA, spec).run(columns)["values"].shape,
    )


def test_anomaly_detector() -> None:
    """An anomaly detector gives its decision function, and a label among -1 and 1."""
    fitted = pipeline(IsolationForest(n_estimators=10, random_state=0)).fit(FRAME)
    spec = output_spec(fitted)
    answers = SklearnPredictor(fitted, SCHEMA, spec).run(columns_of(FRAME, SCHEMA))
    assert ("anomaly", (-1, 1)) == (spec.kind, spec.classes)
    assert fitted.predict(FRAME).tolist() == [spec.classes[place] for place in answers["label"]]
    assert fitted.decision_function(FRAME).tolist() == answers["value"].tolist()


def test_refused_outputs() -> None:
    """Float classes, several labels a row, and what does not predict are refused with the reason."""
    floats = pipeline(LogisticRegression()).fit(FRAME, TARGET * 0.5 + 0.25 > 0.5).set_params()
    floats[-1].classes_ = np.array([0.25, 0.75])
    several = DecisionTreeClassifier().fit(FRAME[["x"]], np.column_stack([TARGET, ~TARGET]))
    with pytest.raises(PackRefused, match=r"0\.25 is a float"):
        output_spec(floats)
    with pytest.raises(PackRefused, match="several labels"):
        output_spec(several)
    with pytest.raises(PackRefused, match="no predict"):
        output_spec(StandardScaler().fit(FRAME[["x"]]))


def test_refusal_of_the_estimator_is_the_models_failure() -> None:
    """What the estimator raises becomes ModelFailed, its words for the log only; warnings do not come out."""
    fitted = pipeline(LogisticRegression(), FunctionTransformer(np.log1p)).fit(FRAME, TARGET)
    predictor = SklearnPredictor(fitted, SCHEMA, output_spec(fitted))
    with pytest.raises(ModelFailed) as caught:
        predictor.run({"x": np.array([-5.0]), "c": np.array(["a"], dtype=object)})
    assert "NaN" not in str(caught.value)
    assert "NaN" in caught.value.whole


MODELS = {
    "forest": RandomForestClassifier(4, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=3, random_state=0),
    "histogram": HistGradientBoostingClassifier(max_iter=3, random_state=0),
    "linear": LogisticRegression(),
}


@pytest.mark.parametrize("name", MODELS)
def test_skops_round_trip(name: str) -> None:
    """A pipeline comes back from its canonical file with the same answers, and only the built-in list is trusted."""
    fitted = pipeline(MODELS[name], make_pipeline(FunctionTransformer(np.log1p), StandardScaler())).fit(FRAME, TARGET)
    spec = output_spec(fitted)
    loaded = load_sklearn(dump_skops(fitted), SCHEMA, spec)
    columns = columns_of(FRAME, SCHEMA)
    expected = SklearnPredictor(fitted, SCHEMA, spec).run(columns)["probabilities"]
    assert expected.tolist() == loaded.run(columns)["probabilities"].tolist()


def digests() -> str:
    """The digests of the canonical files of freshly fitted models."""
    fitted = [pipeline(model).fit(FRAME, TARGET) for model in MODELS.values()]
    return " ".join(hashlib.sha256(dump_skops(model)).hexdigest() for model in fitted)


def test_skops_bytes_are_the_same_in_two_processes() -> None:
    """The same estimators, fitted and written in two processes with other hash seeds, give the same bytes."""
    told = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", "import test_sklearn_loader as t; print(t.digests())"],
            cwd=HERE.parent,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(HERE.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(done.stdout)
    assert told[0] == told[1]


def test_written_again_is_the_same() -> None:
    """A file that is loaded and written again is the same file: that is how packing twice gives one digest."""
    model = RandomForestRegressor(3, random_state=0)
    fitted = pipeline(model).set_params(model__n_jobs=1, columns__n_jobs=1, columns__c__dtype=float)
    first = dump_skops(fitted.fit(FRAME, FRAME["x"]))
    assert first == dump_skops(load_sklearn(first, SCHEMA, output_spec(fitted)).estimator)


def test_lambda_is_refused_by_step() -> None:
    """A lambda can be in no file of data; the step that has it is named with its path."""
    fitted = pipeline(LogisticRegression(), make_pipeline(FunctionTransformer(lambda rows: rows * 2))).fit(
        FRAME, TARGET
    )
    with pytest.raises(PackRefused) as caught:
        dump_skops(fitted)
    assert "columns > n > functiontransformer" == caught.value.step
    assert "lambda" in caught.value.reason


def test_own_class_is_refused_unless_trusted() -> None:
    """A class of the user's own is refused by its step, and taken when the list trusts it."""
    fitted = pipeline(LogisticRegression(), Doubler()).fit(FRAME, TARGET)
    name = f"{Doubler.__module__}.Doubler"
    with pytest.raises(PackRefused, match="columns > n"):
        dump_skops(fitted)
    data = dump_skops(fitted, [name])
    with pytest.raises(BundleRefused, match="Doubler"):
        load_sklearn(data, SCHEMA, output_spec(fitted))
    assert isinstance(load_sklearn(data, SCHEMA, output_spec(fitted), [name]), SklearnPredictor)


@pytest.mark.parametrize("data", [b"", b"no zip", b"\x80\x04K\x01.", skops.io.dumps({"a": 1})[:-30]])
def test_other_bytes_are_refused(data: bytes) -> None:
    """What is not a skops file, a pickle included, is refused, never tried by another loader."""
    with pytest.raises(BundleRefused, match=r"model\.skops"):
        load_sklearn(data, SCHEMA, output_spec(pipeline(LogisticRegression()).fit(FRAME, TARGET)))
