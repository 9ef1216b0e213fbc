"""The founding layout: imported by one command, compiled, proven, and answering as such a folder means."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

import penstock
from founding_folders import dirty_rows, meant, write_folder
from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.carry import carry_out, kind_of
from penstock.bundle.importers.founding import assemble
from penstock.bundle.importers.founding_folder import read_folder
from penstock.bundle.importers.order import Order
from penstock.bundle.profile import Profile
from penstock.bundle.provenance import Provenance
from penstock.errors import PackRefused, SchemaViolation
from running import running

SHARED = Path(__file__).parents[3] / "../shared/founding"
FOREST = RandomForestClassifier(8, max_depth=4, random_state=0)


def imported(folder: Path, out: Path, **options: Any) -> Bundle:
    """The bundle of a folder that this test made itself, so that it may be unpickled here."""
    order = Order(kind=kind_of(folder), source=str(folder), name="small", out=str(out), may_unpickle=True, **options)
    return carry_out(order, lambda step: None)


def assert_as_meant(folder: Path, bundle: Bundle, rows: list[dict[str, Any]]) -> None:
    model = penstock.open(bundle.path)
    for row, answer in zip(rows, model.predict(rows), strict=True):
        expected = meant(folder, row)
        actual = answer.value if answer.probabilities is None else list(answer.probabilities.values())
        assert pytest.approx(expected, abs=1e-6, rel=1e-6) == actual, row


@pytest.mark.skipif(not SHARED.exists(), reason="the shared founding folder is not here")
def test_the_founding_folder_answers_as_its_reference_over_http(tmp_path: Path) -> None:
    """One command imports it; all 1,000 dirty rows get the reference's labels and, to 1e-6, its probabilities."""
    command = ["import", str(SHARED / "user_conversion_20240429"), "--name", "conversion", "--allow-unsafe"]
    done = subprocess.run(
        [sys.executable, "-m", "penstock", *command, "--out", str(tmp_path / "bundles"), "--json"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    described = json.loads(done.stdout)
    assert ("onnx", True) == (described["manifest"]["flavour"], described["verdict"]["proof"]["is_exact"])
    assert "made up" in described["provenance"]["origin"]["sample"]
    rows = [json.loads(line) for line in (SHARED / "rows.jsonl").read_text().splitlines()]
    answers = [json.loads(line) for line in (SHARED / "answers.jsonl").read_text().splitlines()]
    with (
        running([Path(described["path"])], tmp_path / "home") as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client,
    ):
        reply = client.post("/v1/models/conversion/predict", json={"instances": rows})
        assert 200 == reply.status_code, reply.text
        predictions = reply.json()["predictions"]
    assert [answer["label"] for answer in answers] == [prediction["label"] for prediction in predictions]
    expected = [[answer["probabilities"][key] for key in ("no", "yes")] for answer in answers]
    actual = [[prediction["probabilities"][key] for key in ("no", "yes")] for prediction in predictions]
    assert 1000 == len(actual)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "scaler", "options"),
    [
        (FOREST, StandardScaler(), {}),
        (FOREST, MinMaxScaler(), {"columns": ("plan_plus", "visits", "city")}),
        (FOREST, None, {}),
        (LogisticRegression(), StandardScaler(), {"is_scaler_named": False}),
        (HistGradientBoostingClassifier(max_iter=10, random_state=0), RobustScaler(), {"columns": ("rate", "amount")}),
        (GradientBoostingClassifier(n_estimators=8, random_state=0), MinMaxScaler(), {"drop": "first"}),
        (LinearRegression(), StandardScaler(), {}),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else str(value),
)
def test_folders_that_differ(model: Any, scaler: Any, options: dict[str, Any], tmp_path: Path) -> None:
    """Other scalers (or none, or one without names), columns left out and in another order, other models."""
    folder = write_folder(tmp_path / "folder", model, scaler, **options)
    bundle = imported(folder, tmp_path)
    assert "onnx" == bundle.flavour
    assert_as_meant(folder, bundle, dirty_rows())


def test_an_unseen_label_without_a_class_for_it_is_refused(tmp_path: Path) -> None:
    """It is a violation that names the field; so are null and an absent value."""
    folder = write_folder(tmp_path / "folder", FOREST, StandardScaler(), cities=["bergen", "oslo"])
    model = penstock.open(imported(folder, tmp_path).path)
    good = {"visits": 3, "amount": 100.0, "rate": 0.5, "city": "oslo", "plan": "plus"}
    assert pytest.approx(meant(folder, good)) == list((model.predict(good)[0].probabilities or {}).values())
    for bad in ({"city": "paris"}, {"city": None}):
        with pytest.raises(SchemaViolation, match=r"city"):
            model.predict(good | bad)
    with pytest.raises(SchemaViolation, match=r"no value - at `\$\[0\].city`"):
        model.predict({name: value for name, value in good.items() if name != "city"})


def test_no_encoders_are_needed_where_nothing_is_encoded(tmp_path: Path) -> None:
    """A folder of numbers alone, without encoders.pkl; fields of no column that is used are not asked for."""
    folder = write_folder(tmp_path / "folder", FOREST, StandardScaler(), columns=("amount", "rate"))
    plain = yaml.safe_load((folder / "feature_schema.yaml").read_text())
    plain["fields"] = [field for field in plain["fields"] if "encode" not in field]
    (folder / "feature_schema.yaml").write_text(yaml.safe_dump(plain))
    (folder / "encoders.pkl").unlink()
    model = penstock.open(imported(folder, tmp_path).path)
    assert model.predict({}) == model.predict({"amount": 0, "rate": "n/a", "city": "oslo"})


def test_what_the_bundle_says_of_a_made_up_sample(tmp_path: Path) -> None:
    """The provenance tells how the sample was made; no drift reference is kept of it; stated metrics are."""
    bundle = imported(write_folder(tmp_path / "folder", FOREST, StandardScaler()), tmp_path)
    provenance, profile = bundle.part("provenance.json", Provenance), bundle.part("reference.json", Profile)
    assert provenance is not None and provenance.origin is not None and profile is not None
    assert "1,000 rows made up from the scaler's statistics" in (provenance.origin.sample or "")
    assert {"model": "small"} == provenance.origin.facts
    assert {"model.pkl", "feature_schema.yaml", "scaler.pkl"} < set(provenance.origin.files)
    assert {} == profile.features
    assert {"roc_auc": 0.9} == json.loads(bundle.files["evaluation.json"])["stated"]


def test_a_sample_that_is_given_is_used(tmp_path: Path) -> None:
    """Training rows, as dirty as they come, make the sample and the reference profile."""
    folder = write_folder(tmp_path / "folder", FOREST, StandardScaler())
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dirty_rows()))
    bundle = imported(folder, tmp_path, sample=str(tmp_path / "rows.jsonl"))
    profile = bundle.part("reference.json", Profile)
    assert profile is not None
    assert (120, {"visits", "city", "amount", "plan", "rate"}) == (profile.rows, set(profile.features))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("whole") / "folder", FOREST, StandardScaler())


def changed(whole: Path, out: Path, change: Callable[[Path], object]) -> Path:
    out.mkdir()
    for file in whole.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    change(out)
    return out


def schema_with(**options: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "feature_schema.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | options))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda at: (at / "model.pkl").unlink(), "model.pkl: there is no such file"),
        (lambda at: (at / "feature_schema.yaml").unlink(), "feature_schema.yaml: there is no such file"),
        (lambda at: (at / "encoders.pkl").unlink(), "encoders.pkl: the field 'city' is to be encoded"),
        (lambda at: (at / "model.pkl").write_bytes(b"not a pickle"), "model.pkl: it could not be read"),
        (lambda at: (at / "model.pkl").write_bytes(b""), "model.pkl: it could not be read"),
        (lambda at: joblib.dump({"a": 1}, at / "model.pkl"), "model.pkl: expected a fitted model, got a dict"),
        (lambda at: joblib.dump(RandomForestClassifier, at / "model.pkl"), "model.pkl: expected a fitted model"),
        (lambda at: joblib.dump([1], at / "encoders.pkl"), "encoders.pkl: expected a dict from field to encoder"),
        (lambda at: joblib.dump({}, at / "encoders.pkl"), "encoders.pkl: the field 'city' is to be encoded"),
        (lambda at: joblib.dump({"city": 1}, at / "encoders.pkl"), "encoders.pkl: expected a LabelEncoder"),
        (lambda at: joblib.dump("x", at / "scaler.pkl"), "scaler.pkl: expected a fitted scaler, got a str"),
        (lambda at: joblib.dump(StandardScaler(), at / "scaler.pkl"), "scaler.pkl: expected a fitted scaler"),
        (lambda at: joblib.dump(StandardScaler().fit([[1.0]]), at / "scaler.pkl"), "scaler.pkl: it was fitted on 1"),
        (lambda at: (at / "config.yaml").write_text("a: ["), "config.yaml: it cannot be read"),
        (lambda at: (at / "evaluation.json").write_text("[1]"), "evaluation.json: expected a mapping"),
        (lambda at: (at / "evaluation.json").write_bytes(b"\xff"), "evaluation.json: it cannot be read"),
        (lambda at: (at / "feature_schema.yaml").write_text("- 1"), "feature_schema.yaml: expected a mapping"),
        (lambda at: (at / "feature_schema.yaml").write_text("!!python/name:os.x"), "feature_schema.yaml: it cannot"),
        (schema_with(fields=[]), "feature_schema.yaml: `fields` is empty"),
        (schema_with(fields=[{"dtype": "int"}]), "feature_schema.yaml: Object missing required field `name`"),
        (schema_with(fields=[{"name": "a", "dtype": "date"}]), "feature_schema.yaml: Invalid enum value 'date'"),
        (schema_with(fields=[{"name": "a"}, {"name": "a"}]), "feature_schema.yaml: 'a' stands twice"),
        (schema_with(final_feature_cols=["visits", "colour"]), "feature_schema.yaml: .* has 'colour'"),
        (schema_with(final_feature_cols=["visits"]), "model.pkl: it was fitted on 6 columns"),
        (schema_with(final_feature_cols="visits"), "feature_schema.yaml: Expected `array`"),
        (schema_with(fields=[{"name": "rate", "dtype": "float"}]), "scaler.pkl: it scales 'visits'"),
    ],
)  # fmt: skip
def test_broken_folders_are_named(whole: Path, tmp_path: Path, change: Callable[[Path], object], words: str) -> None:
    """Whatever is missing or wrong, the message begins with the file to blame and says the mend."""
    folder = changed(whole, tmp_path / "broken", change)
    with pytest.raises(PackRefused, match="^" + words) as caught:
        imported(folder, tmp_path)
    assert caught.value.advice


FILES = ("model.pkl", "encoders.pkl", "scaler.pkl", "feature_schema.yaml", "config.yaml", "evaluation.json")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["city", "int"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "dtype", "encode", "fields", "final_feature_cols"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(name=st.sampled_from(FILES), content=PLAIN | st.binary(max_size=40))
def test_folders_with_anything_in_a_file(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, name: str, content: Any
) -> None:
    """A file that holds something else ends in an error of ours, never in another."""
    out = tmp_path_factory.mktemp("fuzz")

    def change(folder: Path) -> None:
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif name.endswith(".pkl"):
            joblib.dump(content, folder / name)
        else:
            (folder / name).write_text(json.dumps(content) if name.endswith("json") else yaml.safe_dump(content))

    folder = changed(whole, out / "folder", change)
    order = Order(kind="founding", source=str(folder), name="x", may_unpickle=True)
    if name in ("config.yaml", "evaluation.json"):
        with contextlib.suppress(PackRefused):
            read_folder(folder, order)
        return
    with pytest.raises(PackRefused):
        assemble(read_folder(folder, order))
