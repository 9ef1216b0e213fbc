"""Native boosters: answers and bytes of the file are always the same, alone and behind preprocessing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import penstock
from penstock.bundle.compile.adversary import adversarial_rows
from penstock.bundle.compile.compare import answered
from penstock.bundle.compile.rows import joined, taken
from penstock.bundle.load import loaded
from penstock.bundle.loaders.boosted_pipeline import NativeFile, boosted_file
from penstock.bundle.parts import read_parts, written_parts
from penstock.bundle.subject import Subject, subject_of
from penstock.errors import BundleRefused, MissingExtra, ModelFailed, PackRefused

catboost = pytest.importorskip("catboost", reason="the extra catboost is not installed")
lightgbm = pytest.importorskip("lightgbm", reason="the extra lightgbm is not installed")
xgboost = pytest.importorskip("xgboost", reason="the extra xgboost is not installed")

HERE = Path(__file__)


def table(rows: int = 300) -> pd.DataFrame:
    """Numbers with and without missing values, a whole number, two texts."""
    random = np.random.default_rng(5)
    frame = pd.DataFrame({"dose": random.normal(10, 3, rows).round(2), "age": random.integers(20, 80, rows)})
    frame["dose"] = frame["dose"].mask(random.random(rows) < 0.1)
    frame["ward"] = random.choice(["north", "south", "säd"], rows)
    frame["sex"] = random.choice(["f", "m"], rows)
    return frame


FRAME = table()
NUMBERS = FRAME[["dose", "age"]]
SCORE = NUMBERS["dose"].fillna(9.0) / 10 + NUMBERS["age"] / 60 + (FRAME["ward"] == "north")
ILL = (SCORE > SCORE.median()).to_numpy().astype(int)
STAGE = pd.qcut(SCORE, 3, labels=False).to_numpy().astype(int)
DAYS = (SCORE * 7).to_numpy()
CATEGORIES = FRAME.astype({"ward": "category", "sex": "category"})

CAT = {"iterations": 8, "depth": 3, "random_seed": 0, "thread_count": 1, "verbose": 0, "allow_writing_files": False}
LGBM = {"n_estimators": 8, "num_leaves": 7, "min_child_samples": 5, "n_jobs": 1, "verbose": -1}
XGB = {"n_estimators": 8, "max_depth": 3, "n_jobs": 1}


def behind(model: Any, scaler: Any = None) -> Pipeline:
    """Everyday preprocessing before a model."""
    numbers = make_pipeline(SimpleImputer(), scaler or StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    parts = [("n", numbers, ["dose", "age"]), ("t", texts, ["ward", "sex"])]
    return Pipeline([("preprocess", ColumnTransformer(parts)), ("model", model)])


Make = Callable[[], tuple[Any, Any, np.ndarray]]
MODELS: dict[str, Make] = {
    "xgboost": lambda: (xgboost.XGBClassifier(**XGB), NUMBERS, ILL),
    "xgboost classes": lambda: (xgboost.XGBClassifier(**XGB), NUMBERS.astype(np.float32), STAGE),
    "xgboost missing": lambda: (xgboost.XGBClassifier(missing=-1.0, **XGB), NUMBERS.fillna(-1.0), ILL),
    "xgboost dart": lambda: (xgboost.XGBRegressor(booster="dart", **XGB), NUMBERS, DAYS),
    "xgboost linear": lambda: (xgboost.XGBRegressor(booster="gblinear", n_jobs=1), NUMBERS.fillna(9.0), DAYS),
    "xgboost hinge": lambda: (xgboost.XGBClassifier(objective="binary:hinge", **XGB), NUMBERS, ILL),
    "xgboost categories": lambda: (xgboost.XGBClassifier(enable_categorical=True, **XGB), CATEGORIES, ILL),
    "xgboost targets": lambda: (
        xgboost.XGBRegressor(multi_strategy="multi_output_tree", **XGB),
        NUMBERS,
        np.c_[DAYS, ILL],
    ),
    "xgboost pipeline": lambda: (behind(xgboost.XGBClassifier(booster="dart", **XGB)), FRAME, ILL),
    "lightgbm": lambda: (lightgbm.LGBMClassifier(**LGBM), NUMBERS, np.array(["well", "ill"])[ILL]),
    "lightgbm array": lambda: (lightgbm.LGBMClassifier(**LGBM), NUMBERS.to_numpy(), STAGE),
    "lightgbm linear": lambda: (lightgbm.LGBMRegressor(linear_tree=True, **LGBM), NUMBERS.fillna(9.0), DAYS),
    "lightgbm categories": lambda: (lightgbm.LGBMClassifier(**LGBM), CATEGORIES, ILL),
    "lightgbm pipeline": lambda: (behind(lightgbm.LGBMRegressor(reg_sqrt=True, **LGBM)), FRAME, DAYS),
    "catboost": lambda: (catboost.CatBoostClassifier(**CAT), NUMBERS, ILL.astype(bool)),
    "catboost counts": lambda: (catboost.CatBoostRegressor(loss_function="Poisson", **CAT), NUMBERS, DAYS),
    "catboost spread": lambda: (catboost.CatBoostRegressor(loss_function="RMSEWithUncertainty", **CAT), NUMBERS, DAYS),
    "catboost categories": lambda: (
        catboost.CatBoostClassifier(cat_features=["ward", "sex"], **CAT),
        FRAME,
        np.array(["a", "b", "c"])[STAGE],
    ),
    "catboost pipeline": lambda: (
        behind(catboost.CatBoostRegressor(loss_function="RMSEWithUncertainty", **CAT)),
        FRAME,
        DAYS,
    ),
}


def fitted(name: str) -> tuple[Any, Any]:
    """A model of the table, fitted, and the rows that it was fitted on."""
    model, frame, target = MODELS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(frame, target), frame


def filed(name: str) -> tuple[Subject, NativeFile]:
    """The subject of a fitted model, and its native file."""
    model, frame = fitted(name)
    subject = subject_of(model, frame, None)
    file = boosted_file(subject.estimator)
    assert file is not None
    return subject, file


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_identical(name: str) -> None:
    """From the file come the very numbers of the original: rows of training, missing, unknown and extreme ones."""
    subject, file = filed(name)
    predictor = loaded(file.loader, file.data, subject.schema, subject.outputs)
    rows = joined([subject.columns, *adversarial_rows(subject.columns, subject.schema).values()])
    part = answered(subject.original, rows)
    assert len(part.columns["x0" if "array" in name else "dose"]) > 300
    for some in (part.columns, taken(part.columns, np.array([7]))):
        got, expected = predictor.run(some), subject.original.run(some)
        for output in subject.outputs.names:
            assert expected[output].dtype == got[output].dtype
            assert expected[output].tolist() == got[output].tolist()


@pytest.mark.parametrize("name", ["xgboost dart", "lightgbm linear", "catboost categories", "catboost pipeline"])
def test_packed_opened_and_verified(name: str, tmp_path: Path) -> None:
    """Packing keeps such a model native with a reason, and the opened bundle answers as the model does."""
    model, frame = fitted(name)
    options = penstock.PackOptions(threshold_budget=20, golden_rows=16)
    bundle = penstock.pack(model, name="ward", sample=frame, out=tmp_path, options=options)
    assert ("native", True) == (bundle.flavour, bundle.verdict.native_because is not None)
    opened = penstock.open(bundle.path)
    answers = opened.predict(frame.head(20))
    if bundle.outputs.kind == "classification":
        assert np.ravel(model.predict(frame.head(20))).tolist() == [answer.label for answer in answers]
        chances = [list(answer.probabilities.values()) for answer in answers]
        assert np.asarray(model.predict_proba(frame.head(20)), float).tolist() == chances
    elif not bundle.outputs.targets:
        assert np.asarray(model.predict(frame.head(20)), float).tolist() == [answer.value for answer in answers]


def digests() -> list[str]:
    """The digest of each model's file, each model trained anew."""
    import hashlib

    return [f"{name} {hashlib.sha256(filed(name)[1].data).hexdigest()}" for name in MODELS]


def test_the_same_bytes_in_two_processes() -> None:
    """A model trained and written in another process, with other hashes of texts, is the same file."""
    script = (
        f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); import {HERE.stem} as t; print(*t.digests(), sep='|')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    there = done.stdout.strip().splitlines()[-1].split("|")
    assert digests() == there


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost"])
def test_without_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A native bundle whose library is not installed says which extra is missing."""
    subject, file = filed(name)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'penstock\[{name}\]'"):
        loaded(file.loader, file.data, subject.schema, subject.outputs)


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost", "xgboost pipeline"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: b"\x00" * 64, lambda data: data[: len(data) // 3], lambda data: data[:-100]],
)
def test_what_is_no_model_is_refused(name: str, damage: Callable[[bytes], bytes]) -> None:
    """Other bytes, no bytes and files that end too early are refused with a message, whatever the library raises."""
    subject, file = filed(name)
    with pytest.raises(BundleRefused):
        loaded(file.loader, damage(file.data), subject.schema, subject.outputs)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("split_indices", 0, 10**6), ("left_children", 0, 10**6), ("left_children", 1, 0), ("right_children", 1, 3)],
)
def test_xgboost_trees_that_lead_elsewhere_are_refused(name: str, place: int, value: int) -> None:
    """XGBoost loads a file whose trees lead out of the model or in a circle, and would crash on the first row."""
    subject, _ = filed("xgboost")
    booster = subject.estimator.get_booster().copy()
    model = json.loads(booster.save_raw("json"))
    model["learner"]["gradient_booster"]["model"]["trees"][0][name][place] = value
    booster.load_model(bytearray(json.dumps(model).encode()))
    with pytest.raises(BundleRefused, match=r"model\.ubj: a "):
        loaded("xgboost", bytes(booster.save_raw("ubj")), subject.schema, subject.outputs)


@pytest.mark.parametrize(
    ("name", "value"), [("split_feature", "7 7 7 7 7 7"), ("left_child", "0 0 0 0 0 0"), ("leaf_value", "1 2")]
)
def test_lightgbm_trees_that_lead_elsewhere_are_refused(name: str, value: str) -> None:
    """The same for LightGBM: its text is looked through before the library sees it."""
    subject, file = filed("lightgbm")
    lines = file.data.decode().splitlines(keepends=True)
    place = next(at for at, line in enumerate(lines) if line.startswith(f"{name}="))
    changed = f"{name}={value}"
    # The stated sizes of the trees are kept: the line is filled up with blanks.
    lines[place] = changed.ljust(len(lines[place]) - 1) + "\n"
    with pytest.raises(BundleRefused, match=r"model\.txt: not a LightGBM model in one piece"):
        loaded("lightgbm", "".join(lines).encode(), subject.schema, subject.outputs)


def test_parts_are_the_two_and_no_others() -> None:
    """A pipeline's file with another part, or with a type that is not trusted, is refused."""
    subject, file = filed("xgboost pipeline")
    parts = read_parts(file.data, file.name)
    assert ["model.ubj", "preprocessing.skops"] == sorted(parts)
    more = written_parts({**parts, "model.txt": b"tree"})
    with pytest.raises(BundleRefused, match=r"expected preprocessing\.skops and one of"):
        loaded(file.loader, more, subject.schema, subject.outputs)


def test_code_of_ones_own_is_named() -> None:
    """A step before the booster that a file of data cannot hold is named, as in any pipeline."""
    own = FunctionTransformer(lambda values: values + 1)
    model = behind(xgboost.XGBClassifier(booster="dart", **XGB), own).fit(FRAME, ILL)
    with pytest.raises(PackRefused, match="preprocess > n > functiontransformer"):
        boosted_file(subject_of(model, FRAME, None).estimator)


def test_a_refusal_of_the_library_is_the_models_failure() -> None:
    """What a library raises on a row becomes ModelFailed; its words are for the log."""
    subject, file = filed("xgboost categories")
    predictor = loaded(file.loader, file.data, subject.schema, subject.outputs)
    rows = taken(subject.columns, np.array([0]))
    with pytest.raises(ModelFailed) as caught:
        predictor.run({**rows, "sex": np.array(["z"], dtype=object)})
    assert "not in the training set" not in str(caught.value)
    assert "not in the training set" in caught.value.whole
