"""The bundle's graph in ONNX Runtime, as one writes it by hand: one session with one thread, arrays from plain rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

_MISSING_TEXT = "\uffffmissing"


class Graph:
    """`path` is the file of a workload that says where the graph is and which field goes where."""

    def __init__(self, path: str) -> None:
        said = json.loads(Path(path).read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(said["graph"], options, providers=["CPUExecutionProvider"])
        self._inputs = said["inputs"]
        self.classes = said["classes"]
        self.types = said["types"]

    def predict(self, rows: list[Any]) -> tuple[list[Any], list[list[float]]]:
        """Labels, and probabilities by class, of rows with values by position."""
        feed = {name: _array(name, at, rows) for name, at in self._inputs.items()}
        labels, probabilities = self._session.run(["label", "probabilities"], feed)
        return [self.classes[i] for i in labels.tolist()], probabilities.tolist()


def _array(name: str, at: list[int], rows: list[Any]) -> np.ndarray:
    if name == "numbers":
        return np.array([[row[i] for i in at] for row in rows], dtype=np.float64)
    return np.array([[_MISSING_TEXT if row[i] is None else row[i] for i in at] for row in rows], dtype=object)
