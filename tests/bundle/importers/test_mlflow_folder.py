"""An MLflow model folder, read without MLflow: its signature, its input example, and what is wrong with others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import penstock
from penstock.bundle.importers.carry import carry_out, kind_of
from penstock.bundle.importers.order import Order
from penstock.errors import PackRefused

ROWS = pd.DataFrame({"age": range(20, 60), "city": ["oslo", "bergen"] * 20, "fee": np.arange(40) / 8})
SIGNATURE = [
    {"type": "long", "name": "age", "required": True},
    {"type": "string", "name": "city", "required": True},
    {"type": "double", "name": "fee", "required": True},
]


def write_folder(out: Path, **changes: Any) -> Path:
    """A folder as MLflow writes one of a scikit-learn pipeline, pickled."""
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough")
    model = make_pipeline(columns, LinearRegression()).fit(ROWS, ROWS["age"] * 2 + ROWS["fee"])
    out.mkdir()
    joblib.dump(model, out / "model.pkl")
    example = {"columns": list(ROWS), "data": ROWS.head(12).to_numpy().tolist()}
    (out / "input_example.json").write_text(json.dumps(example))
    plain = {
        "flavors": {"sklearn": {"pickled_model": "model.pkl"}, "python_function": {}},
        "mlflow_version": "3.17.2",
        "signature": {"inputs": json.dumps(SIGNATURE)},
        "saved_input_example_info": {
            "artifact_path": "input_example.json", "type": "dataframe", "pandas_orient": "split"
        },
    }  # fmt: skip
    (out / "MLmodel").write_text(yaml.safe_dump(plain | changes))
    return out


def order_of(folder: Path, **options: Any) -> Order:
    settings: dict[str, Any] = {"may_unpickle": True, "out": str(folder.parent)} | options
    return Order(kind=kind_of(folder), source=str(folder), name="m", **settings)


def test_the_signature_becomes_the_schema(tmp_path: Path) -> None:
    """Types and what may be missing are the signature's; a text is no category of a few rows."""
    signature = [*SIGNATURE[:2], SIGNATURE[2] | {"required": True}]
    folder = write_folder(tmp_path / "folder", signature={"inputs": json.dumps(signature)})
    bundle = carry_out(order_of(folder), lambda step: None)
    assert [("age", "int", False), ("city", "string", False), ("fee", "float", False)] == [
        (field.name, field.type, field.nullable) for field in bundle.schema.fields
    ]
    row = {"age": 30, "city": "nowhere", "fee": 2.5}
    expected = joblib.load(folder / "model.pkl").predict(pd.DataFrame([row]))[0]
    assert pytest.approx(expected) == penstock.open(bundle.path).predict(row)[0].value


def test_a_sample_that_is_given_wins(tmp_path: Path) -> None:
    """Training rows infer the schema, categories included."""
    ROWS.to_csv(tmp_path / "rows.csv", index=False)
    folder = write_folder(tmp_path / "folder")
    bundle = carry_out(order_of(folder, sample=str(tmp_path / "rows.csv")), lambda step: None)
    assert ("category", "accept") == (bundle.schema.field("city").type, bundle.schema.field("city").on_unknown)


def test_a_pickled_flavour_wants_the_word(tmp_path: Path) -> None:
    """Without --allow-unsafe nothing of it is opened."""
    with pytest.raises(PackRefused, match=r"model\.pkl: unpickling runs"):
        carry_out(order_of(write_folder(tmp_path / "folder"), may_unpickle=False), lambda step: None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flavors": {"python_function": {}}}, "MLmodel: expected one of the flavours onnx, .* got python_function"),
        ({"flavors": []}, "MLmodel: it cannot be read"),
        ({"flavors": {"sklearn": {"pickled_model": "../x.pkl"}}}, "MLmodel: `pickled_model` leads out of the folder"),
        ({"flavors": {"sklearn": {"pickled_model": "gone.pkl"}}}, "gone.pkl: there is no such file"),
        ({"flavors": {"xgboost": {"data": "model.pkl", "model_class": "os.system"}}}, "MLmodel: the model_class"),
        ({"flavors": {"pytorch": {"model_data": "data"}}}, "data: expected model.pth or model.pt2"),
        ({"saved_input_example_info": None}, "MLmodel: the model has no input example"),
        ({"saved_input_example_info": {"artifact_path": "gone.json"}}, "gone.json: the input example cannot be read"),
        ({"saved_input_example_info": {"artifact_path": "MLmodel"}}, "MLmodel: the input example cannot be read"),
        ({"signature": {"inputs": "[{"}}, "MLmodel: its signature cannot be read"),
        ({"signature": {"inputs": '[{"type": "array", "name": "a"}]'}}, "MLmodel: the input 'a' is a array"),
        ({"signature": {"inputs": '[{"type": "long", "name": "z"}]'}}, "input_example.json: .* lacks the column 'z'"),
    ],
)  # fmt: skip
def test_folders_that_do_not_fit_are_named(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """Each message names the file to blame."""
    with pytest.raises(PackRefused, match="^" + words):
        carry_out(order_of(write_folder(tmp_path / "folder", **changes)), lambda step: None)


@pytest.mark.parametrize("make", [lambda at: at.mkdir(), lambda at: None], ids=["empty", "nothing"])
def test_what_is_no_model_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """A folder without a known file, and a path without anything."""
    make(tmp_path / "x")
    with pytest.raises(PackRefused, match="expected a folder with MLmodel|there is nothing at this path"):
        kind_of(tmp_path / "x")
