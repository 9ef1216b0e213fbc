"""TensorFlow's SavedModel, native; run by `make test-tensorflow`, in an environment of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock.errors import PackRefused

# A whole process of seconds and half a gigabyte: found without importing it.
if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("tensorflow is not installed: make test-tensorflow", allow_module_level=True)

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

ROWS = np.random.default_rng(0).normal(size=(60, 4))
OPTIONS = penstock.PackOptions(golden_rows=16)
CELLS = [{f"x{place}": float(value) for place, value in enumerate(row)} for row in ROWS]

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(module: Any, where: Path) -> Path:
    tf.saved_model.save(module, str(where), signatures=module.serve)
    return where


class Linear(tf.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(1).normal(size=(4, 3)), dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(self, x: Any) -> Any:
        return {"scores": tf.nn.relu(x) @ self.weights}


class Writes(tf.Module):  # type: ignore[misc]
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(self, x: Any) -> Any:
        tf.io.write_file("/tmp/penstock-must-not-exist", "x")
        return {"scores": x}


def test_a_saved_model_is_packed_and_serves(tmp_path: Path) -> None:
    """It stays native, with the answers of its signature."""
    module = Linear()
    model = penstock.SavedModel(
        saved(module, tmp_path / "model"), kind="classification", classes=("a", "b", "c"), activation="softmax"
    )
    bundle = penstock.pack(model, name="saved", sample=ROWS, out=tmp_path, options=OPTIONS)
    direct = tf.nn.softmax(tf.cast(module.serve(tf.constant(ROWS, tf.float32))["scores"], tf.float64)).numpy()
    got = [list(answer.probabilities.values()) for answer in penstock.open(bundle.path).predict(CELLS)]
    assert ("native", "savedmodel") == (bundle.flavour, bundle.manifest.loader)
    assert np.abs(direct - got).max() < 1e-6


def test_an_export_of_keras(tmp_path: Path) -> None:
    """What `model.export` writes is read too."""
    layers = tf.keras.layers
    net = tf.keras.Sequential([tf.keras.Input((4,)), layers.Dense(8, activation="relu"), layers.BatchNormalization(),
                               layers.Dense(1)])  # fmt: skip
    net.export(str(tmp_path / "model"), verbose=False)
    model = penstock.SavedModel(tmp_path / "model", kind="regression")
    bundle = penstock.pack(model, name="saved", sample=ROWS, out=tmp_path, options=OPTIONS)
    direct = net(tf.constant(ROWS, tf.float32)).numpy().reshape(-1)
    got = [answer.value for answer in penstock.open(bundle.path).predict(CELLS)]
    assert np.allclose(direct, got, atol=1e-6)


def test_operators_that_reach_outside_are_refused(tmp_path: Path) -> None:
    """Its bytes are read before TensorFlow reads them."""
    model = penstock.SavedModel(saved(Writes(), tmp_path / "model"), kind="regression", targets=("a", "b", "c", "d"))
    with pytest.raises(PackRefused, match="the operator WriteFile, which is not listed"):
        penstock.pack(model, name="saved", sample=ROWS, out=tmp_path, options=OPTIONS)


def test_assets_are_refused(tmp_path: Path) -> None:
    """Files beyond graph and variables are for operators that read them."""
    where = saved(Linear(), tmp_path / "model")
    (where / "assets").mkdir(exist_ok=True)
    (where / "assets" / "words.txt").write_text("a")
    with pytest.raises(PackRefused, match=r"assets/words\.txt is neither"):
        penstock.pack(penstock.SavedModel(where, kind="regression"), name="saved", sample=ROWS, out=tmp_path)
