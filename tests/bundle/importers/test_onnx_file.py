"""A bare ONNX file with a sample: what other converters made, served as it is."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

import penstock
from penstock.bundle.importers.carry import carry_out, kind_of
from penstock.bundle.importers.order import Order, classes_of
from penstock.errors import PackRefused

RANDOM = np.random.default_rng(1)
ROWS = pd.DataFrame(RANDOM.normal(size=(200, 3)).astype(np.float32), columns=["a", "b", "c"])
KIND = np.where(ROWS["a"] + ROWS["b"] > 0.5, "high", np.where(ROWS["c"] > 0, "mid", "low"))


def order_of(place: Path, model: Any, options: Any = None, **more: Any) -> Order:
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = to_onnx(model, ROWS.to_numpy()[:1], options=options, target_opset={"": 21, "ai.onnx.ml": 3})
    (place / "model.onnx").write_bytes(graph.SerializeToString())
    ROWS.to_parquet(place / "rows.parquet")
    source = place / "model.onnx"
    sample = str(place / "rows.parquet")
    return Order(kind=kind_of(source), source=str(source), name="m", sample=sample, out=str(place), **more)


@pytest.mark.parametrize("options", [None, {"zipmap": False}], ids=["zipmap", "tensor"])
@pytest.mark.parametrize("target", [KIND, (ROWS["a"] > 0).astype(int)], ids=["texts", "numbers"])
def test_a_classifier(tmp_path: Path, options: Any, target: Any) -> None:
    """Labels and probabilities come out as the classes are, with a ZipMap at the end or without."""
    model = RandomForestClassifier(5, random_state=0).fit(ROWS.to_numpy(), target)
    classes = () if options is None or target is not KIND else ("high", "low", "mid")
    bundle = carry_out(order_of(tmp_path, model, options, classes=classes), lambda step: None)
    answers = penstock.open(bundle.path).predict(ROWS)
    assert "onnx" == bundle.flavour
    assert model.predict(ROWS.to_numpy()).tolist() == [answer.label for answer in answers]
    expected = model.predict_proba(ROWS.to_numpy())
    np.testing.assert_allclose([list((a.probabilities or {}).values()) for a in answers], expected, atol=1e-6)


def test_a_regression(tmp_path: Path) -> None:
    """One number a row is a value."""
    model = LinearRegression().fit(ROWS.to_numpy(), ROWS["a"] * 3 + 1)
    bundle = carry_out(order_of(tmp_path, model), lambda step: None)
    values = [answer.value for answer in penstock.open(bundle.path).predict(ROWS[:20])]
    np.testing.assert_allclose(values, model.predict(ROWS.to_numpy()[:20]), rtol=1e-5)


def test_what_does_not_fit_is_refused_with_the_mend(tmp_path: Path) -> None:
    """Another number of columns, texts without classes, a file that is none, no sample."""
    order = order_of(tmp_path, LogisticRegression().fit(ROWS.to_numpy(), KIND), {"zipmap": False})
    with pytest.raises(PackRefused, match="classes"):
        carry_out(order, lambda step: None)
    ROWS[["a", "b"]].to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(PackRefused, match="3 columns, the sample has 2"):
        carry_out(order, lambda step: None)
    (tmp_path / "model.onnx").write_bytes(b"none")
    with pytest.raises(PackRefused, match="Give a whole ONNX model"):
        carry_out(order, lambda step: None)


@pytest.mark.parametrize(
    ("words", "expected"), [(("0", "-1"), (0, -1)), (("yes", "1"), ("yes", "1")), ((), ())]
)  # fmt: skip
def test_classes_as_typed(words: tuple[str, ...], expected: tuple[Any, ...]) -> None:
    """Whole numbers when all of them are, else texts."""
    assert expected == classes_of(words)
