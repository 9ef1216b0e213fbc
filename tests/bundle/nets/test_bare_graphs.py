"""Bare ONNX graphs packed: schema from the sample, outputs from the graph, and refusals with the mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression, LogisticRegression

import penstock
from penstock.errors import PackRefused

OPTIONS = penstock.PackOptions(golden_rows=16)
ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["a", "b", "c"])
LEFT = np.where(ROWS["a"] > 0, "yes", "no")


def converted(model: Any, **options: object) -> onnx.ModelProto:
    import warnings

    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: onnx.ModelProto = to_onnx(model, ROWS.to_numpy(np.float32)[:1], options=options or None)
    return made


def packed(model: object, where: Path, sample: object = ROWS) -> penstock.Bundle:
    return penstock.pack(model, name="graph", sample=sample, out=where, options=OPTIONS)


def test_labels_of_its_own_and_probabilities(tmp_path: Path) -> None:
    """A classifier's texts are mapped to the declared classes."""
    model = LogisticRegression().fit(ROWS.to_numpy(), LEFT)
    graph = converted(model, zipmap=False)
    bundle = packed(penstock.OnnxModel(graph, classes=("no", "yes")), tmp_path)
    answers = penstock.open(bundle.path).predict(ROWS)
    assert model.predict(ROWS.to_numpy()).tolist() == [answer.label for answer in answers]
    assert ("onnx", ("a", "b", "c")) == (bundle.flavour, bundle.schema.names)


def test_a_path_and_one_value_a_row(tmp_path: Path) -> None:
    """A file that ends in .onnx is packed as it is; one number a row is a regression."""
    onnx.save(converted(LinearRegression().fit(ROWS, ROWS["b"])), tmp_path / "line.onnx")
    bundle = packed(tmp_path / "line.onnx", tmp_path)
    [answer] = penstock.open(bundle.path).predict(ROWS.head(1))
    assert "regression" == bundle.outputs.kind
    assert abs(answer.value - ROWS["b"][0]) < 1e-5


def test_inputs_named_like_columns(tmp_path: Path) -> None:
    """Each input `[n]` or `[n, 1]` takes the column of its name, whatever the order."""
    inputs = [helper.make_tensor_value_info("b", TensorProto.DOUBLE, ["n"]),
              helper.make_tensor_value_info("a", TensorProto.DOUBLE, ["n"])]  # fmt: skip
    out = helper.make_tensor_value_info("gap", TensorProto.DOUBLE, ["n"])
    made = helper.make_graph([helper.make_node("Sub", ["b", "a"], ["gap"])], "g", inputs, [out])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    bundle = packed(model, tmp_path, ROWS[["a", "b"]])
    assert ROWS["b"][0] - ROWS["a"][0] == penstock.open(bundle.path).predict(ROWS.head(1)[["a", "b"]])[0].value


@pytest.mark.parametrize(
    ("model", "sample", "said"),
    [
        (lambda: penstock.OnnxModel(converted(LogisticRegression().fit(ROWS, LEFT))), ROWS, "zipmap=False"),
        (lambda: penstock.OnnxModel(converted(LogisticRegression().fit(ROWS, LEFT), zipmap=False)), ROWS, "classes="),
        (lambda: converted(LinearRegression().fit(ROWS, LEFT == "yes")), ROWS[["a"]], "has 3 columns"),
        (lambda: penstock.OnnxModel(b"not a graph"), ROWS, "Give a whole ONNX model"),
        (lambda: Path("missing.onnx"), ROWS, "Give a whole ONNX model"),
    ],
)
def test_what_is_refused(model: Any, sample: pd.DataFrame, said: str, tmp_path: Path) -> None:
    """Maps, unnamed classes, missing columns and broken files are refused with the mend."""
    with pytest.raises(PackRefused, match=said):
        packed(model(), tmp_path, sample)


def test_a_graph_of_onnx_runtimes_own_operators(tmp_path: Path) -> None:
    """Eight-bit operators of com.microsoft are admitted by name; EPContext, which loads files, never is."""
    gate = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([gate], "g", ends[:1], ends[1:]), opset_imports=opsets, ir_version=9)
    with pytest.raises(PackRefused, match="EPContext"):
        packed(model, tmp_path)
    names = ["x", "scale", "zero"]
    small = helper.make_node("QuantizeLinear", names, ["q"], domain="com.microsoft")
    back = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], domain="com.microsoft")
    constants = [numpy_helper.from_array(np.float32(0.05), "scale"), numpy_helper.from_array(np.uint8(128), "zero")]
    made = helper.make_graph([small, back], "g", ends[:1], ends[1:], constants)
    bundle = packed(helper.make_model(made, opset_imports=opsets, ir_version=9), tmp_path)
    assert "onnx" == bundle.flavour
