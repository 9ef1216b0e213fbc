"""A small table of customers with every kind of column, and the shorthand that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline, make_pipeline

from penstock.bundle.compile import Proven, compile_graph, prove
from penstock.bundle.frame import columns_of
from penstock.bundle.loaders.onnx import OnnxPredictor, load_onnx
from penstock.bundle.loaders.sklearn import SklearnPredictor, output_spec
from penstock.bundle.verdict import Proof
from penstock.schema import Columns, Schema
from penstock.schema.infer import infer

NUMBERS = ["age", "income", "visits"]
TEXTS = ["city", "plan"]


def customers(rows: int = 600, seed: int = 0) -> pd.DataFrame:
    """Float columns with missing values, an int column, text columns of which one has missing values."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": np.abs(random.normal(40, 12, rows)).round(1),
            "income": np.exp(random.normal(8, 1, rows)),
            "visits": random.integers(0, 30, rows),
            "city": random.choice(["Köln", "北京", "Oslo", "Lima"], rows).astype(object),
            "plan": random.choice(["basic", "plus"], rows).astype(object),
        }
    )
    frame.loc[random.random(rows) < 0.1, "income"] = np.nan
    frame.loc[random.random(rows) < 0.1, "city"] = np.nan
    return frame


def churned(frame: pd.DataFrame) -> np.ndarray:
    """A target of 0 and 1 that depends on numbers and texts, with noise."""
    score = frame["age"] / 40 + frame["visits"] / 20 + (frame["plan"] == "plus") + (frame["city"] == "Oslo")
    noise = np.random.default_rng(1).normal(0, 0.7, len(frame))
    return (score + noise > 2.2).to_numpy().astype(int)


def levels(frame: pd.DataFrame) -> np.ndarray:
    """A target of three texts."""
    bins = pd.cut(frame["age"] + 10 * churned(frame), [-np.inf, 35, 48, np.inf], labels=["low", "mid", "high"])
    return bins.astype(str).to_numpy()


def amounts(frame: pd.DataFrame) -> np.ndarray:
    """A positive target with noise."""
    return 3.0 + frame["visits"].to_numpy() * 1.7 + churned(frame) * 5 + np.random.default_rng(2).random(len(frame))


def open_schema(frame: pd.DataFrame) -> Schema:
    """The inferred schema, letting unknown categories in."""
    fields = [
        msgspec.structs.replace(field, on_unknown="accept") if field.type == "category" else field
        for field in infer(frame).schema.fields
    ]
    return Schema(fields=tuple(fields))


def piped(numbers: Any, texts: Any, model: Any) -> Pipeline:
    """Steps for the numbers, steps for the texts, a model."""
    columns = ColumnTransformer(
        [("numbers", _chain(numbers), NUMBERS), ("texts", _chain(texts), TEXTS)], sparse_threshold=0
    )
    return Pipeline([("preprocess", columns), ("model", model)])


def _chain(steps: Any) -> Any:
    return make_pipeline(*steps) if isinstance(steps, list) else steps


class Case(msgspec.Struct, frozen=True):
    """A fitted estimator with its original and its graph."""

    estimator: Any
    schema: Schema
    columns: Columns
    original: SklearnPredictor
    graph: OnnxPredictor

    def proof(self, budget: int = 200) -> Proof:
        """The proof of the graph."""
        return self.proven(budget).proof

    def proven(self, budget: int = 200) -> Proven:
        """The proof of the graph, with its rows."""
        return prove(
            self.original,
            self.graph,
            estimator=self.estimator,
            schema=self.schema,
            outputs=self.original.outputs,
            columns=self.columns,
            budget=budget,
        )


def compiled(estimator: Any, frame: pd.DataFrame, schema: Schema | None = None) -> Case:
    """A fitted estimator, compiled."""
    schema = schema or open_schema(frame)
    outputs = output_spec(estimator)
    graph = load_onnx(compile_graph(estimator, schema, outputs).graph, schema, outputs)
    return Case(estimator, schema, columns_of(frame, schema), SklearnPredictor(estimator, schema, outputs), graph)
