"""Two models for clients of tensors: `wine` (floats, classes are ints) and `shop` (every type, classes are texts)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import penstock
from running import running


class Cellar(NamedTuple):
    """A server of both models, the rows to ask, and what the original models answer: labels and probabilities."""

    url: str
    grpc: str
    rows: Path
    expected: dict[str, list[Any]]


@contextmanager
def cellar(home: Path) -> Iterator[Cellar]:
    """Serve both models, on two ports."""
    made = {"wine": _wine(), "shop": _shop()}
    options = penstock.PackOptions(threshold_budget=20, golden_rows=8)
    paths = [
        penstock.pack(model, name=name, sample=frame, out=home, options=options).path
        for name, (model, frame) in made.items()
    ]
    asked = {name: frame.head(9) for name, (_, frame) in made.items()}
    rows = home / "rows.json"
    rows.write_text(json.dumps({name: frame.to_dict(orient="list") for name, frame in asked.items()}))
    expected = {name: _answers(made[name][0], frame) for name, frame in asked.items()}
    expected["narrow"] = _answers(made["wine"][0], asked["wine"].astype(np.float32).astype(np.float64))
    with running(paths, home / "home", "--grpc-port", "0") as server:
        grpc = server.text.partition("gRPC at ")[2].split()[0]
        yield Cellar(server.url, grpc, rows, expected)


def _answers(model: Any, frame: pd.DataFrame) -> list[Any]:
    return [model.predict(frame).tolist(), model.predict_proba(frame).tolist()]


def _wine() -> tuple[Any, pd.DataFrame]:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(10, 3, (120, 4)), columns=["acid", "sugar", "alcohol", "tannin"])
    quality = (frame["sugar"] + frame["alcohol"] > 20).astype(int) + (frame["acid"] > 11)
    return RandomForestClassifier(8, max_depth=4, random_state=0).fit(frame, quality), frame


def _shop() -> tuple[Any, pd.DataFrame]:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "visits": rng.integers(0, 40, 120),
            "spent": rng.normal(60, 20, 120),
            "member": rng.random(120) < 0.5,
            "town": rng.choice(["Zürich", "Genève", "Bern"], 120),
        }
    )
    bought = np.where(frame["spent"] + frame["visits"] > 80, "yes", "no")
    encoded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["town"]), ("passthrough", ["visits", "spent", "member"])
    )
    return make_pipeline(encoded, LogisticRegression(max_iter=2000)).fit(frame, bought), frame
