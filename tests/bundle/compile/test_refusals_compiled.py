"""What is not compiled, and how the reason names the step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from customer_table import TEXTS, churned, customers, open_schema, piped
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from penstock.bundle.compile import NotCompilable, compile_graph
from penstock.bundle.loaders.sklearn import output_spec
from penstock.schema import Schema

ONE_HOT = OneHotEncoder(handle_unknown="ignore")


def refusal(estimator: Any, schema: Schema) -> NotCompilable:
    """The refusal of an estimator."""
    with pytest.raises(NotCompilable) as caught:
        compile_graph(estimator, schema, output_spec(estimator))
    return caught.value


def test_own_function_names_its_step() -> None:
    """A function that is not numpy's is refused with the path of its step and the functions that there are."""
    frame = customers()
    numbers = [SimpleImputer(), FunctionTransformer(lambda values: values * 2), StandardScaler()]
    pipeline = piped(numbers, ONE_HOT, RandomForestClassifier(3)).fit(frame, churned(frame))
    found = refusal(pipeline, open_schema(frame))
    assert "preprocess > numbers > functiontransformer" == found.step
    assert "log1p" in found.reason


def test_arrays_as_bounds_of_clip() -> None:
    """A clip with one bound per column has no plain number to write."""
    frame = customers()[["age", "visits"]]
    clip = FunctionTransformer(np.clip, kw_args={"a_min": np.array([0, 1]), "a_max": None})
    pipeline = make_pipeline(clip, LogisticRegression()).fit(frame, churned(customers()))
    assert "plain numbers" in refusal(pipeline, open_schema(frame)).reason


def test_boosting_from_another_model() -> None:
    """GradientBoosting that starts from another model is not a sum of its trees."""
    frame = customers()[["age", "visits"]]
    model = GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()).fit(frame, churned(customers()))
    assert "init" in refusal(model, open_schema(frame)).reason


def test_instants_stay_native() -> None:
    """A pipeline that reads a timestamp is refused, by the field's name."""
    frame = pd.DataFrame({"at": pd.date_range("2024-01-01", periods=50, tz="UTC"), "x": np.arange(50.0)})
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(2)).fit(frame[["x"]], frame.index % 2)
    pipeline[0].feature_names_in_ = np.array(["at"], dtype=object)
    assert "'at'" in refusal(pipeline, open_schema(frame)).reason


def test_missing_field_is_named() -> None:
    """A column that the pipeline reads and the schema lacks is named."""
    frame = customers()
    pipeline = piped([SimpleImputer()], ONE_HOT, RandomForestClassifier(2)).fit(frame, churned(frame))
    assert "city" in refusal(pipeline, open_schema(frame.drop(columns=TEXTS[0]))).reason
