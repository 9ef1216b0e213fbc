"""The models that every benchmark uses. To measure another one, add a line to `workloads`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import msgspec
import pandas as pd

from penstock.bundle.bundle import Bundle
from penstock.bundle.pack import PackOptions, pack
from penstock.bundle.subject import used_fields
from penstock.demo.data import churn_pipeline, customers

MANY = 64


class Workload(msgspec.Struct, frozen=True):
    """A packed model, the same for other servers, and valid rows with the original's answers.

    `pickled` is the model and its field types (joblib), `graph` says how the bundle's graph takes its inputs; the
    original answers the probabilities `expected` for `rows`, of which there are `MANY`.
    """

    name: str
    model: Any
    sample: Any
    bundle: Bundle
    pickled: Path
    graph: Path
    rows: list[dict[str, Any]]
    expected: list[list[float]]

    @property
    def row(self) -> dict[str, Any]:
        """The row of requests with one."""
        return self.rows[0]

    def by_position(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows with fields named f0, f1, … as the servers written by hand take them."""
        return [{f"f{i}": value for i, value in enumerate(row.values())} for row in rows]


def workloads(directory: Path) -> list[Workload]:
    """Train, pack and pickle the iris forest and the 12-column pipeline of 200 trees into `directory`."""
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
    golden = [{field: row[field] for field in used} for row in bundle.golden.rows]
    rows = [golden[i % len(golden)] for i in range(MANY)]
    return Workload(
        name=name,
        model=model,
        sample=sample[used],
        bundle=bundle,
        pickled=pickled,
        graph=_graph(bundle, list(types), list(types.values()), directory),
        rows=rows,
        expected=model.predict_proba(pd.DataFrame(rows, columns=list(used))).tolist(),
    )


def _graph(bundle: Bundle, names: list[str], types: list[type], directory: Path) -> Path:
    """A file that tells a server written by hand where the graph is and which field goes where in its inputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle.model_bytes)
    held = session.get_modelmeta().custom_metadata_map
    inputs = {
        node.name: [names.index(field) for field in json.loads(held[f"penstock.{node.name}"])]
        for node in session.get_inputs()
    }
    path = directory / f"{bundle.manifest.name}.graph.json"
    classes = list(bundle.outputs.classes or ())
    said = {"graph": str(bundle.path / "model.onnx"), "inputs": inputs, "classes": classes}
    path.write_text(json.dumps({**said, "types": [kind.__name__ for kind in types]}), encoding="utf-8")
    return path
