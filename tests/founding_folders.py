"""Folders of the founding layout, made small, and what they mean: row by row, sharing nothing with the importer."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import yaml
from sklearn.preprocessing import LabelEncoder, OneHotEncoder

NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", re.ASCII)
CITIES, PLANS = ["bergen", "oslo", "unknown"], ["basic", "plus"]


def training_rows(count: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """Clean rows of two numbers, an int, a city and a plan, and a target of two classes."""
    random = np.random.default_rng(3)
    rows = pd.DataFrame(
        {
            "visits": random.integers(0, 40, count),
            "amount": random.normal(100, 30, count).round(2),
            "rate": random.random(count),
            "city": random.choice(CITIES, count),
            "plan": random.choice(PLANS, count),
        }
    )
    score = rows["visits"] / 20 + rows["amount"] / 80 + (rows["city"] == "oslo") + (rows["plan"] == "plus")
    return rows, np.where(score + random.normal(0, 0.3, count) > 3, "yes", "no")


def write_folder(
    out: Path, model: Any, scaler: Any, *, is_scaler_named: bool = True, columns: tuple[str, ...] = (), **changes: Any
) -> Path:
    """A fitted folder. `columns` are its final_feature_cols (all, when empty); `changes` are those of its fields."""
    rows, target = training_rows()
    numbers = ["visits", "amount", "rate"]
    fields = [
        {"name": "visits", "dtype": "int"},
        {"name": "city", "dtype": "str", "encode": "label"},
        {"name": "amount", "dtype": "float"},
        {"name": "plan", "dtype": "str", "encode": "onehot"},
        {"name": "rate", "dtype": "float"},
    ]
    encoders = {
        "city": LabelEncoder().fit(changes.get("cities", CITIES)),
        "plan": OneHotEncoder(handle_unknown="ignore", drop=changes.get("drop")).fit(rows[["plan"]]),
    }
    made = rows[numbers].astype(float)
    if scaler is not None:
        scaler.fit(rows[numbers] if is_scaler_named else rows[numbers].to_numpy())
        made[numbers] = scaler.transform(rows[numbers] if is_scaler_named else rows[numbers].to_numpy())
    made["city"] = encoders["city"].transform([c if c in encoders["city"].classes_ else "oslo" for c in rows["city"]])
    hot = encoders["plan"].transform(rows[["plan"]]).toarray()
    made[list(encoders["plan"].get_feature_names_out(["plan"]))] = hot
    order = list(columns) or list(made.columns)
    model.fit(made[order], target if hasattr(model, "predict_proba") else made["amount"] * 2 + made["city"])
    out.mkdir()
    joblib.dump(model, out / "model.pkl")
    joblib.dump(encoders, out / "encoders.pkl")
    if scaler is not None:
        joblib.dump(scaler, out / "scaler.pkl")
    (out / "feature_schema.yaml").write_text(
        yaml.safe_dump({"fields": fields, "final_feature_cols": order}, sort_keys=False), encoding="utf-8"
    )
    (out / "config.yaml").write_text("model: small\n", encoding="utf-8")
    (out / "evaluation.json").write_text('{"roc_auc": 0.9, "note": "x"}', encoding="utf-8")
    return out


def dirty_rows(count: int = 120) -> list[dict[str, Any]]:
    """Rows with everything that callers get wrong."""
    random = np.random.default_rng(8)
    odd = [None, "n/a", "", " 12 ", "1e2", "3.9", -2.7, True, "inf", "12,5", 7, 1.5]
    rows = []
    for clean in training_rows(count)[0].to_dict("records"):
        row: dict[str, Any] = {name: value.item() if hasattr(value, "item") else value for name, value in clean.items()}
        for name in list(row):
            chance = random.random()
            if chance < 0.08:
                del row[name]
            elif chance < 0.25:
                texts = [None, "unknown", "never seen", "oslo"]
                row[name] = (texts if isinstance(row[name], str) else odd)[
                    random.integers(0, 4 if name in ("city", "plan") else 12)
                ]
        rows.append(row)
    return rows


def meant(folder: Path, row: dict[str, Any]) -> Any:
    """What the folder answers for a row: probabilities, or a value; ValueError for an unseen label without a class."""
    schema = yaml.safe_load((folder / "feature_schema.yaml").read_text(encoding="utf-8"))
    model, encoders = joblib.load(folder / "model.pkl"), joblib.load(folder / "encoders.pkl")
    made: dict[str, float] = {}
    for field in schema["fields"]:
        name, value = field["name"], row.get(field["name"])
        if field["dtype"] != "str":
            number = _number(value)
            made[name] = float(math.trunc(number)) if field["dtype"] == "int" else number
            continue
        text = "unknown" if value is None else str(value)
        encoder = encoders[name]
        if field["encode"] == "label":
            known = list(encoder.classes_)
            text = text if text in known else "unknown"
            made[name] = float(known.index(text))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of unknown categories
                hot = encoder.transform(pd.DataFrame({name: [text]})).toarray()[0]
            made |= dict(zip(encoder.get_feature_names_out([name]), hot, strict=True))
    if (folder / "scaler.pkl").exists():
        scaler = joblib.load(folder / "scaler.pkl")
        numbers = [field["name"] for field in schema["fields"] if field["dtype"] != "str"]
        names = [str(n) for n in getattr(scaler, "feature_names_in_", numbers)]
        table = pd.DataFrame([[made[name] for name in names]], columns=names)
        scaled = scaler.transform(table if hasattr(scaler, "feature_names_in_") else table.to_numpy())[0]
        made |= dict(zip(names, scaled, strict=True))
    x = pd.DataFrame([made])[schema["final_feature_cols"]]
    return model.predict_proba(x)[0].tolist() if hasattr(model, "predict_proba") else float(model.predict(x)[0])


def _number(value: Any) -> float:
    if isinstance(value, str):
        value = float(value) if NUMBER.fullmatch(value) else None
    return 0.0 if value is None else float(value)
