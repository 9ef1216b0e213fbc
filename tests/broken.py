"""Bundles that are sealed and cannot be served, each for another reason: made of one that can."""

from __future__ import annotations

from pathlib import Path

import msgspec
from onnx import TensorProto, helper

from penstock.bundle.bundle import Bundle
from penstock.bundle.manifest import GOLDEN_FILE
from penstock.bundle.write import Identity, sealed, write_bundle

_DEPTH = 20_000


def changed_byte(bundle: Path, out: Path) -> Path:
    """A copy, of whose model file one byte was changed since."""
    opened = Bundle.open(bundle)
    path = write_bundle(_sealed(opened, {}), out, opened.manifest.name, is_archive=False)
    model = path / opened.manifest.model_file
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    return path


def failing_golden_row(bundle: Path, out: Path) -> Path:
    """Its first golden row expects another label than the model answers."""
    opened = Bundle.open(bundle)
    golden = opened.golden
    labels = list(golden.answers["label"])
    labels[0] = (labels[0] + 1) % len(opened.outputs.classes)
    wrong = msgspec.structs.replace(golden, answers={**golden.answers, "label": labels})
    files = _sealed(opened, {GOLDEN_FILE: msgspec.json.encode(wrong)})
    return write_bundle(files, out, opened.manifest.name, is_archive=False)


def missing_library(bundle: Path, out: Path) -> Path:
    """It is said to need TensorFlow, which is not installed where these tests run."""
    opened = Bundle.open(bundle)
    told = opened.manifest
    identity = Identity(told.name, "native", "savedmodel", told.model_file)
    return write_bundle(sealed(identity, opened.files), out, told.name, is_archive=False)


def killing(bundle: Path, out: Path) -> Path:
    """Its graph kills the process that loads it: ONNX Runtime follows a tree by recursion, and this one is too deep."""
    opened = Bundle.open(bundle)
    files = _sealed(opened, {opened.manifest.model_file: _deep_tree()})
    return write_bundle(files, out, opened.manifest.name, is_archive=False)


def _sealed(opened: Bundle, files: dict[str, bytes]) -> dict[str, bytes]:
    told = opened.manifest
    return sealed(Identity(told.name, told.flavour, told.loader, told.model_file), {**opened.files, **files})


def _deep_tree() -> bytes:
    count = 2 * _DEPTH + 1
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0] * count,
        nodes_nodeids=list(range(count)),
        nodes_featureids=[0] * count,
        nodes_values=[0.5] * count,
        nodes_modes=["BRANCH_LEQ"] * _DEPTH + ["LEAF"] * (_DEPTH + 1),
        nodes_truenodeids=[*range(1, _DEPTH + 1), *[0] * (_DEPTH + 1)],
        nodes_falsenodeids=[*range(_DEPTH + 1, count), *[0] * (_DEPTH + 1)],
        target_treeids=[0],
        target_nodeids=[_DEPTH],
        target_ids=[0],
        target_weights=[1.0],
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in ("x", "y")]
    graph = helper.make_graph([node], "deep", ends[:1], ends[1:])
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made: bytes = helper.make_model(graph, opset_imports=domains, ir_version=9).SerializeToString()
    return made
