"""Exactness of compiled graphs on real data, beside the usual float32 conversion: regenerates docs/exactness.md.

Run by `make exactness`. The rows are made without the proof's code: rows that the model never saw, raw values on and
one step beside training values and split thresholds (through the scaler's own inverse), missing values, unknown
categories. `tests/bundle/compile/test_real_data.py` asserts on the same rows, with smaller models.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pandas as pd
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from boosted import boosted_splits, boosters, coded, has_usual, register_converters
from penstock.bundle.compile import compile_graph, prove
from penstock.bundle.frame import columns_of
from penstock.bundle.loaders.onnx import load_onnx
from penstock.bundle.loaders.sklearn import SklearnPredictor, output_spec
from penstock.bundle.outputs import Outputs
from penstock.errors import ModelFailed
from penstock.schema import Columns, Schema
from penstock.schema.infer import infer

DATA = Path(__file__).resolve().parents[1] / "../shared/data"
PAGE = Path(__file__).resolve().parents[1] / "docs/exactness.md"
TOLERANCE = 1e-6
_BESIDE_ROWS = 2000


class Task(msgspec.Struct, frozen=True):
    """A data set with its target and its columns by kind; leaks and ids are in neither list."""

    file: str
    target: str
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    is_regression: bool = False


class Tally(msgspec.Struct, frozen=True):
    """How many of the rows were wrong (above the tolerance, or another label), the largest difference, label flips."""

    rows: int
    wrong: int
    largest: float
    flips: int


TASKS = (
    Task(
        "telco_churn.csv",
        "Churn",
        ("tenure", "MonthlyCharges", "TotalCharges"),
        (
            "gender",
            "SeniorCitizen",
            "Partner",
            "Dependents",
            "PhoneService",
            "MultipleLines",
            "InternetService",
            "OnlineSecurity",
            "OnlineBackup",
            "DeviceProtection",
            "TechSupport",
            "StreamingTV",
            "StreamingMovies",
            "Contract",
            "PaperlessBilling",
            "PaymentMethod",
        ),
    ),
    Task(
        "bank_full.csv",
        "y",
        ("day", "campaign", "pdays", "previous", "age", "balance"),
        ("poutcome", "job", "marital", "education", "default", "housing", "loan", "contact", "month"),
    ),
    Task(
        "bike_hour.csv",
        "cnt",
        ("mnth", "hr", "weekday", "temp", "atemp", "hum", "windspeed"),
        ("season", "yr", "weathersit"),
        is_regression=True,
    ),
)


def models(is_regression: bool, trees: int) -> dict[str, Any]:
    """The estimators of the table, by name."""
    if is_regression:
        return {
            "LinearRegression": LinearRegression(),
            "RandomForest": RandomForestRegressor(trees, min_samples_leaf=3, random_state=0),
            "GradientBoosting": GradientBoostingRegressor(n_estimators=trees, random_state=0),
            "HistGradientBoosting": HistGradientBoostingRegressor(max_iter=trees, random_state=0),
            "MLP": MLPRegressor(hidden_layer_sizes=(32, 16), max_iter=60, random_state=0),
            **boosters(is_regression, trees),
        }
    return {
        "LogisticRegression": LogisticRegression(max_iter=1000),
        "RandomForest": RandomForestClassifier(trees, random_state=0),
        "GradientBoosting": GradientBoostingClassifier(n_estimators=trees, random_state=0),
        "HistGradientBoosting": HistGradientBoostingClassifier(max_iter=trees, random_state=0),
        "MLP": MLPClassifier((32, 16), max_iter=30, random_state=0),
        **boosters(is_regression, trees),
    }


def pipeline_of(task: Task, model: Any) -> Pipeline:
    """Impute and scale the numbers, one-hot the texts: the everyday pipeline."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return Pipeline(
        [
            ("preprocess", ColumnTransformer([("n", numbers, list(task.numbers)), ("c", texts, list(task.texts))])),
            ("model", model),
        ]
    )


def read(task: Task) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """The features as they are trained on, and the target; codes of categories (SeniorCitizen, season) are texts."""
    frame = pd.read_csv(DATA / task.file)
    features = frame[[*task.numbers, *task.texts]].astype(dict.fromkeys(task.texts, str)).astype(
        dict.fromkeys(task.texts, object)
    )  # fmt: skip
    return features, frame[task.target]


def schema_of(frame: pd.DataFrame, task: Task) -> Schema:
    """The inferred schema, opened as a serving team would: numbers may be missing, unknown categories are let in."""
    fields = []
    for field in infer(frame).schema.fields:
        if field.name in task.numbers:
            fields.append(msgspec.structs.replace(field, nullable=True))
        else:
            fields.append(msgspec.structs.replace(field, on_unknown="accept"))
    return Schema(fields=tuple(fields))


def independent_rows(pipeline: Pipeline, task: Task, train: Columns, unseen: Columns) -> Columns:
    """Unseen rows, and such rows with one value on or beside a threshold or a training value, gone, or unknown."""
    random = np.random.default_rng(1)
    parts = [unseen]
    for place, name in enumerate(task.numbers):
        values = np.concatenate([thresholds_back(pipeline, place), train[name]])
        chosen = random.choice(values, min(len(values), _BESIDE_ROWS // len(task.numbers)), replace=False)
        chosen = np.concatenate([chosen, np.full(5, np.nan)])
        is_whole = bool((train[name] == np.rint(train[name])).all())
        for beside in _beside(chosen, is_whole):
            parts.append(_with(unseen, random, name, beside))
    for name in task.texts:
        unknown = np.full(5, "never seen in training", dtype=object)
        parts.append(_with(unseen, random, name, unknown))
    return {name: np.concatenate([part[name] for part in parts]) for name in train}


def _with(unseen: Columns, random: np.random.Generator, name: str, values: np.ndarray) -> Columns:
    rows = random.integers(0, len(next(iter(unseen.values()))), len(values))
    return {**{other: column[rows] for other, column in unseen.items()}, name: values}


def _beside(values: np.ndarray, is_whole: bool) -> Iterator[np.ndarray]:
    if is_whole:
        yield from (np.floor(values), np.ceil(values))
    else:
        yield from (values, np.nextafter(values, np.inf), np.nextafter(values, -np.inf))


def thresholds_back(pipeline: Pipeline, place: int) -> np.ndarray:
    """The split thresholds of one scaled number, as raw values by the scaler's own arithmetic the other way round."""
    scaler = pipeline.named_steps["preprocess"].named_transformers_["n"][-1]
    thresholds = np.array([t for feature, t in _splits(pipeline.named_steps["model"]) if feature == place])
    return np.unique(thresholds * scaler.scale_[place] + scaler.mean_[place])


def _splits(model: Any) -> Iterator[tuple[int, float]]:
    yield from boosted_splits(model)
    for member in np.ravel(np.asarray(getattr(model, "estimators_", []), dtype=object)):
        inner = member.tree_.children_left >= 0
        yield from zip(member.tree_.feature[inner], member.tree_.threshold[inner], strict=True)
    for stage in getattr(model, "_predictors", []):
        for predictor in stage:
            inner = predictor.nodes["is_leaf"] == 0
            yield from zip(predictor.nodes["feature_idx"][inner], predictor.nodes["num_threshold"][inner], strict=True)


def usual(pipeline: Pipeline, task: Task, columns: Columns) -> Outputs:
    """The answers of the usual conversion: one float32 input per number, as its documentation shows."""
    register_converters()
    kinds = [(name, FloatTensorType([None, 1])) for name in task.numbers]
    kinds += [(name, StringTensorType([None, 1])) for name in task.texts]
    options = None if task.is_regression else {id(pipeline): {"zipmap": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = convert_sklearn(pipeline, initial_types=kinds, options=options, target_opset={"": 21, "ai.onnx.ml": 3})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {name: columns[name].astype(np.float32).reshape(-1, 1) for name in task.numbers}
    feed |= {name: columns[name].reshape(-1, 1) for name in task.texts}
    answers = session.run(None, feed)
    if task.is_regression:
        return {"value": np.asarray(answers[0], dtype=np.float64).ravel()}
    classes = {text: place for place, text in enumerate(pipeline.classes_)}
    labels = np.array([classes[text] for text in answers[0]], dtype=np.int64)
    return {"label": labels, "probabilities": np.asarray(answers[1], dtype=np.float64)}


def tally(expected: Outputs, got: Outputs) -> Tally:
    """The differences between two answers on the same rows; of values, relative to the larger of the value and 1."""
    rows = len(next(iter(expected.values())))
    if "value" in expected:
        gap = np.abs(got["value"] - expected["value"]) / np.maximum(np.abs(expected["value"]), 1.0)
        flips = np.zeros(rows, bool)
    else:
        gap = np.abs(got["probabilities"] - expected["probabilities"]).max(axis=1)
        flips = got["label"] != expected["label"]
    return Tally(rows, int(((gap > TOLERANCE) | flips).sum()), float(gap.max()), int(flips.sum()))


class Result(msgspec.Struct, frozen=True):
    """One line of the table."""

    file: str
    model: str
    is_exact: bool
    ours: Tally
    theirs: Tally | None
    straddled: int


def measured(task: Task, name: str, model: Any, *, most_rows: int, budget: int) -> Result:
    """Train on the first 70 % of up to `most_rows` rows, compile, prove, and compare on independent rows."""
    features, target = read(task)
    features, target = features[:most_rows], coded(target[:most_rows], model)
    cut = int(len(features) * 0.7)
    pipeline = pipeline_of(task, model).fit(features[:cut], target[:cut])
    schema = schema_of(features, task)
    outputs = output_spec(pipeline)
    original = SklearnPredictor(pipeline, schema, outputs)
    graph = load_onnx(compile_graph(pipeline, schema, outputs).graph, schema, outputs)
    train, unseen = columns_of(features[:cut], schema), columns_of(features[cut:], schema)
    proof = prove(
        original, graph, estimator=pipeline, schema=schema, outputs=outputs, columns=train, budget=budget
    ).proof
    rows = independent_rows(pipeline, task, train, unseen)
    expected = original.run(rows)
    ours = tally(expected, graph.run(rows))
    theirs = tally(expected, usual(pipeline, task, rows)) if has_usual(model) else None
    return Result(task.file, name, proof.is_exact, ours, theirs, proof.thresholds.straddled)


def line_of(result: Result) -> str:
    """The result as a row of the page's table."""
    ours, theirs = result.ours, result.theirs
    flavour = "onnx" if result.is_exact else "native"
    cells = [
        result.file.removesuffix(".csv"), result.model, flavour, f"{ours.rows:,}",
        f"{ours.wrong:,}", f"{ours.largest:.1e}", f"{ours.flips:,}",
        *(("-", "-", "-") if theirs is None else (f"{theirs.wrong:,}", f"{theirs.largest:.1e}", f"{theirs.flips:,}")),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure all of the table and write the page."""
    if not DATA.exists():
        sys.exit(f"{DATA} is not there: the table needs the shared data sets")
    warnings.simplefilter("ignore")
    lines = []
    for task in TASKS:
        for name, model in models(task.is_regression, 100).items():
            try:
                result = measured(task, name, model, most_rows=1_000_000, budget=2000)
            except ModelFailed as error:
                sys.exit(f"{task.file}, {name}: {error}")
            lines.append(line_of(result))
            print(lines[-1], flush=True)
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition("<!-- table -->\n")
    after = rest.partition("<!-- end of table -->")
    PAGE.write_text(before + mark + HEAD + "\n".join(lines) + "\n" + after[1] + after[2], encoding="utf-8")


HEAD = """| data | model | flavour | rows | wrong | largest | flips | float32: wrong | largest | flips |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""

if __name__ == "__main__":
    main()
