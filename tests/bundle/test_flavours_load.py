"""A bundle of either flavour opens, proves itself again on this machine, and answers as the original did."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.errors import BundleRefused, ModelFailed, SchemaViolation

ROWS: dict[str, dict[str, Any]] = {
    "iris": {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
    "amount": {"x": 5.1},
    "growth": {"x": 5.1},
}


@pytest.fixture(scope="module")
def opened(bundles: dict[str, Path]) -> dict[str, penstock.Model]:
    return {name: penstock.open(path) for name, path in bundles.items()}


def test_flavours(opened: dict[str, penstock.Model]) -> None:
    """What can be proven exact is compiled, what cannot stays native and says which step decided."""
    flavours = {name: model.bundle.manifest.flavour for name, model in opened.items()}
    assert {"iris": "onnx", "churn": "onnx", "amount": "onnx", "growth": "native"} == flavours
    assert "the function cbrt" in opened["growth"].bundle.files["proof.json"].decode()


@pytest.mark.parametrize("name", ["iris", "churn", "amount", "growth"])
def test_golden_rows_answer_as_sealed(opened: dict[str, penstock.Model], name: str) -> None:
    """Each golden row, put in as a caller would, gets the label and the numbers that the original gave."""
    model = opened[name]
    golden = model.bundle.golden
    answers = model.predict([dict(row) for row in golden.rows])
    outputs = model.bundle.outputs
    sealed = golden.answers
    if outputs.kind == "classification":
        assert [outputs.classes[label] for label in sealed["label"]] == [answer.label for answer in answers]
        told = [list((answer.probabilities or {}).values()) for answer in answers]
        assert [pytest.approx(row, abs=1e-6) for row in sealed["probabilities"]] == told
    else:
        assert pytest.approx(sealed["value"], rel=1e-6) == [answer.value for answer in answers]


@pytest.mark.parametrize("name", ROWS)
def test_rows_together_and_apart(opened: dict[str, penstock.Model], name: str) -> None:
    """A row's answer does not depend on the rows that are in the same run."""
    key = next(iter(ROWS[name]))
    rows = [{**ROWS[name], key: 4.3 + number / 9} for number in range(40)]
    together = opened[name].predict(rows)
    apart = [opened[name].predict(row)[0] for row in rows]
    if name == "iris":
        assert together == apart
    else:
        assert pytest.approx([one.value for one in together], rel=1e-12) == [one.value for one in apart]


@pytest.mark.parametrize("name", ["amount", "growth"])
def test_answers_that_are_none(opened: dict[str, penstock.Model], name: str) -> None:
    """Both flavours raise ModelFailed where there is no finite answer, and SchemaViolation for what is no row."""
    with pytest.raises(ModelFailed):
        opened[name].predict({"x": 1.7e308})
    with pytest.raises(SchemaViolation, match=r"\$\[0\]\.x"):
        opened[name].predict({"x": "5.1"})


@pytest.mark.parametrize(("name", "file"), [("iris", "model.onnx"), ("growth", "model.skops")])
def test_a_changed_model_file(bundles: dict[str, Path], tmp_path: Path, name: str, file: str) -> None:
    """A model file with one changed byte is refused by name before anything of it is loaded."""
    copy = tmp_path / bundles[name].name
    shutil.copytree(bundles[name], copy)
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    with pytest.raises(BundleRefused, match=file):
        penstock.open(copy)
