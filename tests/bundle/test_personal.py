"""Personal fields at packing: no value of a person in golden rows and descriptions, and plain words where there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

import penstock
from penstock.bundle.bundle import Bundle
from penstock.bundle.golden import rows_of
from penstock.bundle.personal import with_stand_ins
from penstock.bundle.profile import MaskedProfile, Profile
from penstock.bundle.provenance import Provenance
from penstock.schema import Check, Columns, Field, Schema
from penstock.schema.infer import infer

OPTIONS = penstock.PackOptions(threshold_budget=40, golden_rows=16)
NAMES = ["Ada Lovelace", "Grace Hopper", "Mary Shelley", "Emmy Noether"]

FIELDS = {
    "a float": (Field(name="x", type="float", nullable=True, pii="p"), np.array([3.5, 812.25, np.nan])),
    "a float below 0": (Field(name="x", type="float", pii="p"), np.array([-3.5, 1e300, 7.0])),
    "float32": (Field(name="x", type="float", dtype="float32", pii="p"), np.array([3e38, 1.5])),
    "a range": (Field(name="x", type="float", range=(10.0, 11.0), pii="p"), np.array([10.5])),
    "a range of any size": (Field(name="x", type="float", range=(-1.7e308, 1.7e308), pii="p"), np.array([1.0])),
    "an open range": (Field(name="x", type="int", range=(None, -5), pii="p"), np.array([-70.0])),
    "int8": (Field(name="x", type="int", dtype="int8", pii="p"), np.array([101.0, -7.0])),
    "a large int": (Field(name="x", type="int", pii="p"), np.array([2.0**53])),
    "numbers of a list": (Field(name="x", type="int", allowed=(4, 9), pii="p"), np.array([4.0, 9.0])),
    "bool": (Field(name="x", type="bool", nullable=True, pii="p"), np.array([1.0, np.nan])),
    "string": (Field(name="x", type="string", nullable=True, pii="p"), np.array(["ada", None], dtype=object)),
    "category": (Field(name="x", type="category", on_unknown="accept", pii="p"), np.array(["ada"], dtype=object)),
    "a list": (Field(name="x", type="category", allowed=("a", "b"), pii="p"), np.array(["a"], dtype=object)),
    "timestamp": (
        Field(name="x", type="timestamp", nullable=True, pii="p"),
        np.array(["1961-04-12", "NaT"], dtype="datetime64[ns]"),
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_stand_ins_are_values_that_the_schema_takes(name: str) -> None:
    """Of every type: as the schema wants them, none of them one of the sample unless it was declared, null now and
    then where that is a value."""
    field, sample = FIELDS[name]
    schema = Schema(fields=(field,))
    columns: Columns = {"x": np.resize(sample, 40)}
    made = with_stand_ins(columns, schema, {"x": sample})["x"]
    rows = rows_of({"x": made}, schema)
    checked = Check(schema)
    assert rows == rows_of(checked.columns(checked.from_objects(rows).rows), schema)
    values = {row["x"] for row in rows}
    assert field.nullable == (None in values)
    if field.allowed is None and field.type != "bool":
        known = rows_of({"x": sample}, schema)
        assert set() == {row["x"] for row in known if row["x"] is not None} & values
        assert len(values) > 20
    assert made.dtype == sample.dtype
    again = with_stand_ins(columns, schema, {"x": sample})["x"]
    assert rows == rows_of({"x": again}, schema)


def packed(model: Any, table: pd.DataFrame, out: Path, **personal: dict[str, Any]) -> Bundle:
    """A bundle whose schema is inferred but for some fields."""
    changed = [
        Field(**{**{n: getattr(field, n) for n in field.__struct_fields__}, **personal.get(field.name, {})})
        for field in infer(table).schema.fields
    ]
    return penstock.pack(model, name="m", sample=table, schema=Schema(fields=tuple(changed)), out=out, options=OPTIONS)


def notes(bundle: Bundle) -> list[str]:
    provenance = bundle.part("provenance.json", Provenance)
    return [] if provenance is None else list(provenance.notes)


def people(count: int = 80) -> pd.DataFrame:
    random = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "who": [NAMES[number % 4] for number in range(count)],
            "income": random.uniform(20_000, 90_000, count),
            "fee": np.arange(count) % 7 * 1.0,
        }
    )


def test_no_personal_value_is_in_any_file(tmp_path: Path) -> None:
    """Trees over personal numbers: golden rows, profile, schema, proof, evaluation have no value of the sample."""
    table = people()[["income", "fee"]]
    model = RandomForestClassifier(5, random_state=0).fit(table, table["income"] > 50_000)
    bundle = packed(model, table, tmp_path, income={"pii": "income"})
    assert bundle.golden.rows
    files = {path.name: path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()}
    assert [] == [(n, v) for n, data in files.items() for v in table["income"] if repr(v).encode() in data]
    profile = bundle.part("reference.json", Profile)
    assert profile is not None
    assert MaskedProfile(80, 0) == profile.features["income"]
    assert [] == notes(bundle)
    assert penstock.open(bundle.path).predict({"income": 80_000.0, "fee": 1.0})


def one_hot(**options: Any) -> Any:
    parts = [("who", OneHotEncoder(**options), ["who"])]
    return make_pipeline(ColumnTransformer(parts, remainder="passthrough"), LinearRegression())


@pytest.mark.parametrize("is_native", [False, True], ids=["onnx", "native"])
def test_an_encoder_over_a_personal_field_is_told_of(tmp_path: Path, is_native: bool) -> None:
    """The categories are in the model file, compressed or not: the notes name the field and what to do."""
    table = people()
    steps = [FunctionTransformer(np.cbrt)] if is_native else []
    names = OneHotEncoder(handle_unknown="ignore")
    parts = ColumnTransformer([("who", names, ["who"]), ("fee", make_pipeline(*steps, "passthrough"), ["fee"])])
    model = make_pipeline(parts, LinearRegression()).fit(table, table["fee"])
    bundle = packed(model, table[["who", "fee"]], tmp_path, who=PERSON)
    assert "native" if is_native else "onnx" == bundle.flavour
    (note,) = notes(bundle)
    assert note.startswith("who: personal, and the fitted model itself holds values of it")
    texts = {row["who"] for row in bundle.golden.rows}
    assert all(text.startswith("masked-") for text in texts)
    held = [path.name for path in bundle.path.iterdir() if any(name.encode() in path.read_bytes() for name in NAMES)]
    assert [] == [name for name in held if not name.startswith("model.")]


PERSON: dict[str, Any] = {"pii": "name", "type": "string", "allowed": None}


def test_numbers_that_a_model_keeps_are_told_of(tmp_path: Path) -> None:
    """Neighbours are rows of the sample."""
    table = people()[["income", "fee"]]
    bundle = packed(KNeighborsRegressor().fit(table, table["fee"]), table, tmp_path, income={"pii": "income"})
    assert ["income: personal, and the fitted model itself holds"] == [note[:51] for note in notes(bundle)]


def test_declared_values_stay_and_are_told_of(tmp_path: Path) -> None:
    """What the schema file lists was declared: golden rows have these values, and the notes say so."""
    table = people()[["who", "fee"]]
    bundle = packed(one_hot().fit(table, table["fee"]), table, tmp_path, who={"pii": "name"})
    assert set(NAMES) == {row["who"] for row in bundle.golden.rows}
    assert ["who: personal, and `allowed` lists its values in clear"] == [note[:54] for note in notes(bundle)]


def test_a_model_that_takes_no_stand_in_has_no_golden_rows(tmp_path: Path) -> None:
    """An encoder that refuses unknown names knows all of them: rather no golden row than a person; the notes say so."""
    table = people()[["who", "fee"]]
    bundle = packed(one_hot().fit(table, table["fee"]), table, tmp_path, who=PERSON)
    assert [] == bundle.golden.rows
    assert ["golden rows: none, for the model refuses"] == [note[:40] for note in notes(bundle)[1:]]
    assert penstock.open(bundle.path).predict({"who": NAMES[0], "fee": 1.0})


def test_inference_makes_no_list_of_addresses() -> None:
    """However often they repeat, e-mail addresses are a string, and a note that shows a value shows none of these."""
    found = infer(pd.DataFrame({"a": ["ada@x.org", "eve@x.org"] * 20, "b": ["ada@x.org"] * 40}))
    assert [("string", None)] * 2 == [(field.type, field.allowed) for field in found.schema.fields]
    assert "ada" not in str(found.notes)
