"""The demo's data: a generated customer table with categories, missing values and dates, and the models on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

PLANS = ("basic", "family", "plus", "business")
REGIONS = ("north", "south", "east", "west", "islands")
PAYMENTS = ("card", "direct debit", "invoice")
DEVICES = ("phone", "tablet", "router")


def customers(rows: int, seed: int = 0) -> tuple[pd.DataFrame, pd.Series[Any]]:
    """A table of 13 columns and whether the customer left ("yes" or "no"); the same seed gives the same rows.

    Twelve columns are numbers and categories; `signed_up` is a date. `income`, `satisfaction` and `device` have
    missing values. Whole-euro incomes and fees in steps of 0.5 put many rows exactly on split thresholds, as real
    tables do.
    """
    random = np.random.default_rng(seed)
    tenure = random.geometric(0.03, rows).clip(1, 120)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 90, rows),
            "income": random.lognormal(10.3, 0.5, rows).round(-1),
            "monthly_fee": (random.gamma(4, 9, rows) * 2).round() / 2,
            "tenure_months": tenure,
            "support_calls": random.poisson(1.3, rows),
            "usage_gb": random.gamma(2, 11, rows).round(3),
            "late_payments": random.binomial(6, 0.08, rows),
            "satisfaction": random.choice([1.0, 2.0, 3.0, 4.0, 5.0], rows, p=[0.06, 0.1, 0.24, 0.36, 0.24]),
            "plan": random.choice(PLANS, rows, p=[0.4, 0.25, 0.25, 0.1]),
            "region": random.choice(REGIONS, rows, p=[0.3, 0.3, 0.2, 0.18, 0.02]),
            "payment": random.choice(PAYMENTS, rows, p=[0.5, 0.4, 0.1]),
            "device": random.choice(DEVICES, rows).astype(object),
            "signed_up": pd.Timestamp("2026-01-01") - pd.to_timedelta(tenure * 30 + random.integers(0, 30, rows), "D"),
        }
    )
    risk = _risk(table) + random.logistic(0, 1, rows)
    table.loc[random.random(rows) < 0.07, "income"] = np.nan
    table.loc[random.random(rows) < 0.3, "satisfaction"] = np.nan
    table.loc[random.random(rows) < 0.04, "device"] = None
    return table, pd.Series(np.where(risk > 0, "yes", "no"), name="left")


def _risk(table: pd.DataFrame) -> np.ndarray:
    return np.asarray(
        -1.6
        + 0.45 * table["support_calls"]
        - 0.02 * table["tenure_months"]
        + 0.6 * table["late_payments"]
        - 0.5 * (table["satisfaction"] - 3)
        + 0.012 * table["monthly_fee"]
        + np.where(table["plan"] == "basic", 0.4, 0.0)
        - np.where(table["payment"] == "direct debit", 0.5, 0.0)
    )


NUMBERS = (
    "age",
    "income",
    "monthly_fee",
    "tenure_months",
    "support_calls",
    "usage_gb",
    "late_payments",
    "satisfaction",
)
CATEGORIES = ("plan", "region", "payment", "device")


def churn_pipeline(trees: int = 200, *, dates: bool = False) -> Any:
    """Imputers, scaler and one-hot encoder on twelve columns, and a forest; with `dates` also on the date."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    parts = [
        ("numbers", numbers, list(NUMBERS)),
        ("categories", OneHotEncoder(handle_unknown="ignore"), list(CATEGORIES)),
    ]
    if dates:
        parts.append(("dates", StandardScaler(), ["signed_up"]))
    forest = RandomForestClassifier(trees, max_depth=8, min_samples_leaf=5, random_state=0)
    return make_pipeline(ColumnTransformer(parts), forest)
