"""The corpus of pipelines: each is exact on rows made without the proof's code, or native with a step and a reason."""

from __future__ import annotations

import warnings
import zlib

import numpy as np
import pytest
from corpus import (
    CLASSIFIERS,
    COUNTED,
    DETECTORS,
    MANY,
    NUMERIC,
    REGRESSORS,
    TEXTUAL,
    Make,
    differences,
    independent_rows,
    pipeline_of,
    target_of,
)
from customer_table import compiled, customers, open_schema

from penstock.bundle.compile import NotCompilable, blame
from penstock.bundle.frame import columns_of
from penstock.bundle.loaders.output_spec import output_spec
from penstock.bundle.loaders.sklearn import SklearnPredictor, dump_skops, load_sklearn

_ROWS = 250
_BUDGET = 30
_SCALED = [name for name in NUMERIC if name not in ("Binarizer", "KBins")]

NATIVE = {
    "KNNImputer": "preprocess > numbers > knnimputer",
    "IterativeImputer": "preprocess > numbers > iterativeimputer",
}
"""What is native with whatever it is combined, and the step that is named."""

SOMETIMES = ("KNeighbors", "SplineTransformer")
"""What is exact on some tables and models and not on others: neighbours at equal distances, trees behind splines."""


def _cases() -> list[tuple[str, str, str]]:
    """Each estimator with two kinds of preprocessing, each preprocessing with several estimators, by turns."""
    cases: list[tuple[str, str, str]] = []
    numeric, textual = list(NUMERIC), list(TEXTUAL)
    names = [*CLASSIFIERS, *(f"{name} (regressor)" for name in REGRESSORS), *MANY, *DETECTORS]
    for place, name in enumerate(names):
        for turn in range(2):
            number = (2 * place + turn * 11) % len(numeric)
            encoder = "OneHotEncoder" if name in MANY else textual[(place + turn) % len(textual)]
            cases.append((name, "StandardScaler" if name in MANY else numeric[number], encoder))
    return [*cases, *((name, "MinMaxScaler", text) for name in COUNTED for text in textual[:2])]


def _maker(name: str) -> Make:
    tables = {**CLASSIFIERS, **COUNTED, **MANY, **DETECTORS}
    return REGRESSORS[name.removesuffix(" (regressor)")] if name.endswith("(regressor)") else tables[name]


@pytest.mark.parametrize(("name", "numeric", "textual"), _cases())
def test_pipeline_is_exact_or_native_with_a_reason(name: str, numeric: str, textual: str) -> None:
    """The graph answers as the original on independent rows; where there is none, a step and a reason are given, and
    the native file answers the same.
    """
    random = np.random.default_rng(zlib.crc32(f"{name}, {numeric}, {textual}".encode()))
    frame = customers(_ROWS, seed=int(random.integers(1, 1000)))
    target = target_of(name, frame, random, is_numeric=numeric in ("RFE", "SelectFromModel"))
    model = pipeline_of(NUMERIC[numeric](random), TEXTUAL[textual](random), _maker(name)(random))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(frame, target)
    fresh = independent_rows(customers(120, seed=2000), frame, random)
    schema, outputs = open_schema(frame), output_spec(model)
    named = None
    try:
        case = compiled(model, frame, schema)
        proven = case.proven(_BUDGET)
        if proven.proof.is_exact:
            largest, flips = differences(case, columns_of(fresh, schema))
            assert (True, 0) == (largest <= 1e-6, flips)
        else:
            why = blame(case.original, proven, schema)
            named = why.step
            assert all((why.reason, why.advice))
    except NotCompilable as refusal:
        named = refusal.step
        assert refusal.reason
    wanted = [step for part, step in NATIVE.items() if part in (name, numeric)]
    if not {name, numeric} & set(SOMETIMES):
        assert wanted[:1] == [step for step in (named,) if step is not None]
    if named is not None:
        original = SklearnPredictor(model, schema, outputs)
        native = load_sklearn(dump_skops(model), schema, outputs)
        rows = columns_of(fresh, schema)
        for key, answer in original.run(rows).items():
            assert answer.tolist() == native.run(rows)[key].tolist()


def test_the_corpus_is_large() -> None:
    """At least 60 pipelines, with every estimator and every preprocessing."""
    cases = _cases()
    assert (True, set(NUMERIC), set(TEXTUAL)) == (
        len(cases) >= 60,
        {numeric for _, numeric, _ in cases},
        {textual for _, _, textual in cases},
    )
