"""Valid rows of the models that `conftest.py` packs."""

from __future__ import annotations

IRIS_ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
CHURN_ROW = {
    "age": 41,
    "income": 31000.0,
    "monthly_fee": 39.5,
    "tenure_months": 7,
    "support_calls": 3,
    "usage_gb": 12.25,
    "late_payments": 1,
    "satisfaction": None,
    "plan": "plus",
    "region": "north",
    "payment": "card",
    "device": "phone",
}
