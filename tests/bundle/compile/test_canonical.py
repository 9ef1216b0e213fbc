"""The bytes of a graph: the same in every process; the inputs: only what is read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
from customer_table import churned, customers, open_schema, piped
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from penstock.bundle.compile import Compiled, compile_graph
from penstock.bundle.loaders.sklearn import output_spec

HERE = Path(__file__)


def graph_of(kind: str) -> Compiled:
    """The graph of a forest, or of a net that skl2onnx converts."""
    frame = customers(300)
    net = MLPClassifier((4,), solver="lbfgs", tol=1e-1, random_state=0, max_iter=5000)
    model = RandomForestClassifier(40, random_state=0) if kind == "forest" else net
    texts = [SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")]
    pipeline = piped([SimpleImputer(), StandardScaler()], texts, model).fit(frame, churned(frame))
    return compile_graph(pipeline, open_schema(frame), output_spec(pipeline))


def digests() -> dict[str, str]:
    """The digests of both graphs."""
    return {kind: hashlib.sha256(graph_of(kind).graph).hexdigest() for kind in ("forest", "net")}


def test_bytes_are_the_same_in_two_processes() -> None:
    """Neither the process nor the hash seed shows in the bytes, for our own graphs and for converted ones."""
    told = []
    for seed in ("1", "2"):
        script = "import json, test_canonical; print(json.dumps(test_canonical.digests()))"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=HERE.parent,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(HERE.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(json.loads(done.stdout))
    assert told[0] == told[1]


def test_graph_is_valid_and_small() -> None:
    """The onnx checker accepts the graph, its two inputs name their fields, and a forest takes few nodes."""
    model = onnx.load_from_string(graph_of("forest").graph)
    onnx.checker.check_model(model)
    packed = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert {"penstock.numbers": ["age", "income", "visits"], "penstock.texts": ["city", "plan"]} == packed
    assert len(model.graph.node) < 22


def test_outputs_have_the_declared_names_and_types() -> None:
    """`label` is int64 [n], `probabilities` float64 [n, k]."""
    session = onnxruntime.InferenceSession(graph_of("forest").graph, providers=["CPUExecutionProvider"])
    told = [(out.name, out.type, len(out.shape)) for out in session.get_outputs()]
    assert [("label", "tensor(int64)", 1), ("probabilities", "tensor(double)", 2)] == told
