"""What many tests need: sealed bundles, packed once per process, and rows that fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import pytest

from rows import CHURN_ROW, IRIS_ROW

Bundles = dict[str, Path]

# Timings are measured in benchmarks/ and never asserted: neither each example's, nor that of making one.
hypothesis.settings.register_profile("penstock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("penstock")


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Paths of packed models.

    - `iris`: a forest of four floats, classes 0, 1, 2.
    - `churn`: twelve columns, classes "no" and "yes"; `income` and `device` are personal, `support_calls` has the
      default 0, unknown regions become "islands".
    - `amount`: a linear regression that overflows for x = 1e308.
    - `growth`: a native regression of one float, slow enough for a thread of its own; it raises for x = 1e300.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _packed(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def iris_row() -> dict[str, Any]:
    """A row of `iris`."""
    return dict(IRIS_ROW)


@pytest.fixture
def churn_row() -> dict[str, Any]:
    """A row of `churn`."""
    return dict(CHURN_ROW)


def _packed(out: Path) -> Bundles:
    import msgspec
    import numpy as np
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    import penstock
    from penstock.demo.data import churn_pipeline, customers
    from penstock.schema.infer import infer

    options = penstock.PackOptions(threshold_budget=40, golden_rows=16)
    iris = load_iris(as_frame=True)
    flowers, kinds = iris.data.set_axis(list(IRIS_ROW), axis=1), iris.target
    table, left = customers(1500)
    table = table.drop(columns="signed_up")
    changes: dict[str, dict[str, Any]] = {
        "region": {"on_unknown": "map", "unknown_as": "islands"},
        "support_calls": {"default": 0},
        "income": {"pii": "income"},
        "device": {"pii": "device"},
    }
    inferred = infer(table).schema
    fields = tuple(msgspec.structs.replace(field, **changes.get(field.name, {})) for field in inferred.fields)
    schema = msgspec.structs.replace(inferred, fields=fields)
    line = flowers[["sepal_length"]].set_axis(["x"], axis=1)
    forest = RandomForestRegressor(20, random_state=0)
    growth = make_pipeline(FunctionTransformer(np.cbrt), forest)  # a function that has no exact graph
    models = {
        "iris": (RandomForestClassifier(20, random_state=0).fit(flowers, kinds), flowers, None),
        "churn": (churn_pipeline(20).fit(table, left), table, schema),
        "amount": (LinearRegression().fit(line, 1e6 * flowers["petal_width"]), line, None),
        "growth": (growth.fit(line, flowers["petal_width"]), line, None),
    }
    return {
        name: penstock.pack(model, name=name, sample=sample, schema=given, out=out, options=options).path
        for name, (model, sample, given) in models.items()
    }
