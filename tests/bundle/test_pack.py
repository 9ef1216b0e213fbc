"""Packing: what is sealed, what stays out of it, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import penstock
from penstock.bundle.evaluation import Evaluation
from penstock.bundle.profile import Profile
from penstock.bundle.provenance import Provenance
from penstock.demo.data import churn_pipeline, customers
from penstock.errors import BundleRefused, PackRefused, SchemaViolation
from penstock.schema import Field, Schema

OPTIONS = penstock.PackOptions(threshold_budget=50, golden_rows=20)

PACK_TWICE = """
import sys, warnings
warnings.simplefilter("ignore")
import penstock
from penstock.demo.data import churn_pipeline, customers
table, left = customers(400)
dates = sys.argv[1] == "native"
table = table if dates else table.drop(columns="signed_up")
bundle = penstock.pack(
    churn_pipeline(8, dates=dates).fit(table, left), name="churn", sample=table, out=sys.argv[2],
    options=penstock.PackOptions(threshold_budget=50),
)
print(bundle.flavour, bundle.manifest.content_digest)
"""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return customers(400)[0].drop(columns="signed_up")


@pytest.fixture(scope="module")
def pipeline(table: pd.DataFrame) -> Any:
    return churn_pipeline(8).fit(table, customers(400)[1])


@pytest.mark.parametrize("flavour", ["onnx", "native"])
def test_the_same_thing_has_the_same_digest_in_two_processes(tmp_path: Path, flavour: str) -> None:
    """Hash seeds, times, ids and directories take no part in the content digest."""
    said = []
    for seed in ("1", "2"):
        command = [sys.executable, "-c", PACK_TWICE, flavour, str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        said.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert said[0] == said[1]
    assert said[0].startswith(f"{flavour} sha256:")


def test_columns_that_the_model_never_reads_stay_out(tmp_path: Path) -> None:
    """A caller need not send a column that the pipeline drops; the bundle notes it."""
    table, left = customers(300)
    bundle = penstock.pack(
        churn_pipeline(5).fit(table, left), name="churn", sample=table, out=tmp_path, options=OPTIONS
    )
    assert "signed_up" not in bundle.schema.names
    provenance = bundle.part("provenance.json", Provenance)
    assert provenance is not None
    assert any(note.startswith("signed_up: the model never reads it") for note in provenance.notes)


def test_metrics_are_those_of_the_original_on_the_holdout(tmp_path: Path, table: pd.DataFrame, pipeline: Any) -> None:
    """The evaluation equals scikit-learn's own of the original, beside what the caller states."""
    fresh, left = customers(500, seed=9)
    bundle = penstock.pack(
        pipeline, name="churn", sample=table, holdout=(fresh, left), evaluation={"roc_auc": 0.9}, out=tmp_path,
        options=OPTIONS,
    )  # fmt: skip
    found = bundle.part("evaluation.json", Evaluation)
    assert found is not None
    expected = roc_auc_score(left == "yes", pipeline.predict_proba(fresh.drop(columns="signed_up"))[:, 1])
    assert expected == pytest.approx(found.metrics["roc_auc"], abs=1e-12)
    assert ({"roc_auc": 0.9}, 500) == (found.stated, found.rows)


def test_the_profile_counts_every_row_once(tmp_path: Path, table: pd.DataFrame, pipeline: Any) -> None:
    """Bins, other values and missing ones add up to the rows of the sample, and no bin is below one per cent."""
    bundle = penstock.pack(pipeline, name="churn", sample=table, out=tmp_path, options=OPTIONS)
    profile = bundle.part("reference.json", Profile)
    assert profile is not None
    for name, feature in profile.features.items():
        counts = list(feature.counts.values()) if isinstance(feature.counts, dict) else feature.counts
        rest = feature.missing + getattr(feature, "other", 0)
        assert len(table) == sum(counts) + rest, name
        if hasattr(feature, "edges"):
            assert min(feature.counts) >= 0.01 * (len(table) - feature.missing), name
    assert table["device"].isna().sum() == profile.features["device"].missing
    assert profile.holdout is None


def test_unknown_categories_are_taken_where_the_model_itself_answers_them(tmp_path: Path) -> None:
    """handle_unknown='ignore' accepts, handle_unknown='error' refuses: the original is asked."""
    table, left = customers(300)
    table = table[["age", "plan", "region"]]
    parts = [
        ("numbers", StandardScaler(), ["age"]),
        ("lax", OneHotEncoder(handle_unknown="ignore"), ["plan"]),
        ("strict", OneHotEncoder(), ["region"]),
    ]
    model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(table, left)
    bundle = penstock.pack(model, name="churn", sample=table, out=tmp_path, options=OPTIONS)
    assert "accept" == bundle.schema.field("plan").on_unknown
    assert "refuse" == bundle.schema.field("region").on_unknown


def test_a_lambda_is_refused_with_its_step(tmp_path: Path) -> None:
    """What can be neither compiled nor kept names the step and the way out."""
    rows = pd.DataFrame({"x": np.arange(20.0)})
    model = make_pipeline(FunctionTransformer(lambda values: values * 2), LinearRegression()).fit(rows, rows["x"])
    with pytest.raises(PackRefused, match="functiontransformer: .*Use a numpy function"):
        penstock.pack(model, name="amount", sample=rows, out=tmp_path, options=OPTIONS)
    assert [] == list(tmp_path.iterdir())


def test_a_sample_that_breaks_the_given_schema_is_refused(tmp_path: Path) -> None:
    """The same check that serves also looks at the training rows."""
    rows = pd.DataFrame({"x": np.arange(20.0)})
    schema = Schema(fields=(Field(name="x", type="float", range=(0, 10)),))
    with pytest.raises(SchemaViolation, match=r"0\.\.10, got 11"):
        penstock.pack(
            LinearRegression().fit(rows, rows["x"]), name="amount", sample=rows, schema=schema, out=tmp_path,
            options=OPTIONS,
        )  # fmt: skip


def test_a_schema_under_which_the_model_answers_otherwise_is_refused(tmp_path: Path) -> None:
    """When dtypes get lost on the way through the schema the packer is told, before anything is compared."""
    rows = pd.DataFrame({"plan": ["a", None, "b", "a"] * 10})
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(rows, [0, 1, 1, 0] * 10)
    schema = Schema(
        fields=(Field(name="plan", type="string", nullable=True, dtype="object", null_as="value", null_value="gone"),)
    )
    with pytest.raises(PackRefused, match="after the way through the schema"):
        penstock.pack(model, name="plans", sample=rows, schema=schema, out=tmp_path, options=OPTIONS)


def test_the_model_is_not_changed(tmp_path: Path) -> None:
    """Packing works on a copy: n_jobs of the caller's model stays."""
    rows = pd.DataFrame({"x": np.arange(40.0)})
    model = RandomForestClassifier(5, n_jobs=2, random_state=0).fit(rows, rows["x"] > 20)
    bundle = penstock.pack(model, name="half", sample=rows, out=tmp_path, options=OPTIONS)
    assert 2 == model.n_jobs
    assert (False, True) == bundle.outputs.classes


def test_an_array_gets_names(tmp_path: Path) -> None:
    """The columns of an array are called x0, x1, … and the model answers as it does on the array."""
    rows = np.random.default_rng(0).normal(size=(60, 3))
    model = LinearRegression().fit(rows, rows @ [1.0, 2.0, 3.0])
    opened = penstock.open(penstock.pack(model, name="sum", sample=rows, out=tmp_path, options=OPTIONS).path)
    (answer,) = opened.predict({"x0": 1.0, "x1": 1.0, "x2": 1.0})
    assert 6.0 == pytest.approx(answer.value)


@pytest.mark.parametrize("name", ["Churn", "a/b", "..", "", "x" * 65])
def test_a_name_that_cannot_be_in_a_path_is_refused(tmp_path: Path, name: str) -> None:
    """Names become parts of URLs and paths."""
    with pytest.raises(BundleRefused, match="cannot name a model"):
        penstock.pack(LinearRegression(), name=name, sample=np.zeros((2, 1)), out=tmp_path)


def test_a_full_disk_leaves_no_half_bundle(tmp_path: Path) -> None:
    """When writing fails nothing appears under the bundle's name."""
    script = (
        "import resource, signal, sys, numpy as np, penstock\n"
        "from sklearn.linear_model import LinearRegression\n"
        "rows = np.random.default_rng(0).normal(size=(60, 3))\n"
        "model = LinearRegression().fit(rows, rows.sum(axis=1))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "try:\n"
        "    penstock.pack(model, name='sum', sample=rows, out=sys.argv[1])\n"
        "except penstock.PenstockError as error:\n"
        "    print('refused:', error)\n"
    )
    out = tmp_path / "bundles"
    done = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, check=True)
    assert "refused: write: " in done.stdout
    assert [] == list(out.iterdir())
