"""Makes the folder that `mlflow models serve` takes: `mlflow_save.py FOLDER`, the model as in model.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import joblib
import mlflow.sklearn


def save_original(folder: str) -> None:
    """scikit-learn's flavour, answering with `predict_proba`."""
    mlflow.sklearn.save_model(
        joblib.load(os.environ["MODEL"])["model"],
        folder,
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=[],
    )


def save_graph(folder: str) -> None:
    """The ONNX flavour, with the session's threads set as the others' are."""
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    said = json.loads(Path(os.environ["MODEL"]).read_text(encoding="utf-8"))
    kinds = {"numbers": np.dtype("float64"), "texts": np.dtype("str")}
    inputs = [TensorSpec(kinds[name], (-1, len(at)), name) for name, at in said["inputs"].items()]
    mlflow.onnx.save_model(
        onnx.load(said["graph"]),
        folder,
        signature=ModelSignature(inputs=Schema(inputs)),
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        pip_requirements=[],
    )


if __name__ == "__main__":
    {"original": save_original, "graph": save_graph}[os.environ["DESIGN"]](sys.argv[1])
