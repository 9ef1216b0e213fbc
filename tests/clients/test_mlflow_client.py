"""MLflow's own client, unmodified and in an environment of its own, against a real server (`make clients`)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from environments import called
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import penstock
from running import running

LABELS = (
    "frame",
    "frame of an object array",
    "frame in another order",
    "array",
    "list",
    "dataframe_split",
    "dataframe_records",
    "instances",
    "inputs",
    "input example",
    "as a frame",
    "csv",
)


class Shop(NamedTuple):
    """What the client was told, and what the original model says of the same rows."""

    answers: dict[str, Any]
    labels: list[str]
    probabilities: list[list[float]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A forest over an int column without gaps, one with gaps, a float with gaps and a text, asked in every form."""
    home = tmp_path_factory.mktemp("mlflow-client")
    frame = _frame()
    bought = np.where(frame["spent"].fillna(50) + frame["visits"] > 60, "yes", "no")
    encoded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["shop"]), (SimpleImputer(), ["visits", "age", "spent"])
    )
    model = make_pipeline(encoded, RandomForestClassifier(8, max_depth=4, random_state=0)).fit(frame, bought)
    options = penstock.PackOptions(threshold_budget=20, golden_rows=8)
    path = penstock.pack(model, name="shop", sample=frame, out=home, options=options).path
    rows = frame.head(12)
    assert rows["age"].isna().any() and rows["spent"].isna().any()
    rows.to_csv(home / "rows.csv", index=False)
    with running([path], home / "home") as server:
        answers = called("mlflow", "mlflow_calls.py", "127.0.0.1", str(server.port), str(home / "rows.csv"))
    return Shop(answers, model.predict(rows).tolist(), model.predict_proba(rows).tolist())


def _frame() -> pd.DataFrame:
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "visits": random.integers(0, 30, 200),
            "age": random.integers(18, 80, 200).astype(float),
            "spent": random.gamma(2.0, 25.0, 200),
            "shop": random.choice(["north", "south, old", 'the "new" one'], 200),
        }
    )
    frame.loc[::5, "age"] = np.nan
    frame.loc[1::7, "spent"] = np.nan
    return frame


@pytest.mark.parametrize("form", LABELS)
def test_labels_of_the_original(shop: Shop, form: str) -> None:
    """In every form of rows the answer is what the original model's predict says."""
    assert shop.labels == shop.answers[form]


def test_probabilities_of_the_original(shop: Shop) -> None:
    """With `predict_method` the answer is what the original model's predict_proba says."""
    np.testing.assert_allclose(shop.answers["probabilities"], shop.probabilities, rtol=0, atol=1e-9)


def test_the_client_shows_what_was_wrong(shop: Shop) -> None:
    """A frame without a column is refused with MLflow's code, and the client shows the message."""
    assert "error code 400" in shop.answers["refused"]
    assert "BAD_REQUEST" in shop.answers["refused"]
    assert "visits" in shop.answers["refused"]


def test_every_answer_is_compared(shop: Shop) -> None:
    """No form that the program asks for is left out here."""
    assert {*LABELS, "probabilities", "refused", "version"} == set(shop.answers)
