"""The two models that every benchmark uses: the iris forest, and a 12-column pipeline with 200 trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import msgspec
import pandas as pd

from penstock.bundle.bundle import Bundle
from penstock.bundle.pack import PackOptions, pack
from penstock.bundle.subject import used_fields
from penstock.demo.data import churn_pipeline, customers


class Workload(msgspec.Struct, frozen=True):
    """A packed model, the same model for the usual design, and one valid row."""

    name: str
    model: Any
    sample: Any
    bundle: Bundle
    pickled: Path
    row: dict[str, Any]


def workloads(directory: Path) -> list[Workload]:
    """Train, pack and pickle both models into `directory`."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    flowers = load_iris(as_frame=True)
    forest = RandomForestClassifier(100, random_state=0).fit(flowers.data, flowers.target)
    table, left = customers(6000)
    pipeline = churn_pipeline().fit(table, left)
    return [
        _workload("iris forest", forest, flowers.data, directory),
        _workload("12-column pipeline", pipeline, table.drop(columns="signed_up"), directory),
    ]


def _workload(name: str, model: Any, sample: pd.DataFrame, directory: Path) -> Workload:
    bundle = pack(
        model,
        name=name.split()[0].replace("12-column", "churn"),
        sample=sample,
        out=directory,
        options=PackOptions(threshold_budget=200),
    )
    used = used_fields(model, sample)
    types = {field: {"O": str, "f": float, "i": int, "b": bool}[sample[field].dtype.kind] for field in used}
    pickled = directory / f"{bundle.manifest.name}.joblib"
    joblib.dump({"model": model, "types": types}, pickled)
    return Workload(name, model, sample[used], bundle, pickled, bundle.golden.rows[0])
