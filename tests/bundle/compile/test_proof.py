"""The proof: what it counts, and the conversions that it must reject without knowing their names."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from customer_table import NUMBERS, TEXTS, Case, amounts, churned, compiled, customers, open_schema, piped
from onnx import numpy_helper
from onnx.inliner import inline_local_functions
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
)

from penstock.bundle.compile import blame, compile_graph, lower, prove
from penstock.bundle.frame import columns_of
from penstock.bundle.loaders.onnx import load_onnx
from penstock.bundle.loaders.sklearn import SklearnPredictor, output_spec
from penstock.bundle.outputs import Outputs
from penstock.bundle.predictor import Predictor
from penstock.bundle.verdict import Proof
from penstock.errors import ModelFailed
from penstock.schema import Columns

ONE_HOT = OneHotEncoder(handle_unknown="ignore")


def usually_converted(pipeline: Any, frame: Any) -> Proof:
    """The proof of what skl2onnx makes of the whole pipeline with float32 inputs, as its documentation shows."""
    kinds = [
        (name, StringTensorType([None, 1]) if name in TEXTS else FloatTensorType([None, 1])) for name in frame.columns
    ]
    options = {id(pipeline): {"zipmap": False}}
    model = convert_sklearn(pipeline, initial_types=kinds, options=options, target_opset={"": 21, "ai.onnx.ml": 3})
    schema, outputs = open_schema(frame), output_spec(pipeline)
    graph = load_onnx(inline_local_functions(model).SerializeToString(), schema, outputs)
    case = Case(pipeline, schema, columns_of(frame, schema), SklearnPredictor(pipeline, schema, outputs), graph)
    return case.proof(500)


def test_plain_float32_conversion_is_rejected() -> None:
    """The usual float32 conversion of a scaled forest moves rows across thresholds, and the proof finds some."""
    frame = customers().drop(columns="city").fillna({"income": 0})
    numbers = make_pipeline(StandardScaler())
    pipeline = piped(numbers, ONE_HOT, RandomForestClassifier(30, random_state=0))
    pipeline.set_params(preprocess__transformers=[("numbers", numbers, NUMBERS), ("texts", ONE_HOT, ["plan"])])
    proof = usually_converted(pipeline.fit(frame, churned(customers())), frame)
    assert (False, True) == (proof.is_exact, proof.wrong > 50)


@pytest.mark.parametrize(
    ("numbers", "model", "guilty"),
    [
        ([SimpleImputer(), StandardScaler()], LinearDiscriminantAnalysis(), "model"),
        ([KNNImputer()], LogisticRegression(max_iter=3000), "preprocess > numbers > knnimputer"),
        (
            [SimpleImputer(), PowerTransformer()],
            RandomForestClassifier(10, random_state=0),
            "preprocess > numbers > powertransformer",
        ),
        (
            [SimpleImputer(), Binarizer(threshold=38.3)],
            RandomForestClassifier(10, random_state=0),
            "preprocess > numbers > binarizer",
        ),
    ],
    ids=["binary LDA", "KNNImputer", "PowerTransformer", "Binarizer"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_wrong_converters_are_rejected_and_blamed(
    numbers: Any, model: Any, guilty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What skl2onnx converts wrongly is rejected on its rows, and the step that differs is named; our own writings of
    these steps are put aside.
    """
    monkeypatch.setattr(lower, "transform_of", lambda part: None)
    monkeypatch.setattr(lower, "_linear", lambda estimator: None)
    frame = customers()
    case = compiled(piped(numbers, ONE_HOT, model).fit(frame, churned(frame)), frame)
    proven = case.proven()
    found = blame(case.original, proven, case.schema)
    assert (False, guilty) == (proven.proof.is_exact, found.step)


def test_usual_add_indicator_is_rejected() -> None:
    """The usual conversion of `add_indicator` forgets the indicator."""
    frame = customers()[NUMBERS]
    pipeline = make_pipeline(SimpleImputer(add_indicator=True), LogisticRegression(max_iter=3000))
    proof = usually_converted(pipeline.fit(frame, churned(customers())), frame)
    assert not proof.is_exact


def test_usual_encoded_missing_value_is_rejected() -> None:
    """The usual conversion of `encoded_missing_value` gives missing texts another code."""
    frame = customers()[["city"]]
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=10)
    pipeline = make_pipeline(encoder, RandomForestClassifier(10, random_state=0))
    proof = usually_converted(pipeline.fit(frame, churned(customers())), frame)
    assert not proof.is_exact


class Shifted:
    """A predictor that is wrong on purpose: it adds to the values, or turns the labels."""

    def __init__(self, inner: Predictor, *, by: float = 0.0, factor: float = 1.0, turned: int = 0) -> None:
        self._inner, self._by, self._factor, self._turned = inner, by, factor, turned

    def run(self, columns: Columns) -> Outputs:
        """The inner outputs, changed."""
        outputs = dict(self._inner.run(columns))
        for name in ("probabilities", "value"):
            if name in outputs:
                outputs[name] = outputs[name] * self._factor + self._by
        if self._turned and "label" in outputs:
            outputs["label"] = outputs["label"].copy()
            outputs["label"][: self._turned] ^= 1
        return outputs


def shifted(case: Case, **change: Any) -> Proof:
    """The proof of a case's graph, changed."""
    return prove(
        case.original,
        Shifted(case.graph, **change),
        estimator=case.estimator,
        schema=case.schema,
        outputs=case.original.outputs,
        columns=case.columns,
        budget=20,
    ).proof


@pytest.fixture(scope="module")
def forest() -> Case:
    """A small forest of two classes, compiled."""
    frame = customers(300)
    model = RandomForestClassifier(8, random_state=0)
    return compiled(piped([SimpleImputer(), StandardScaler()], ONE_HOT, model).fit(frame, churned(frame)), frame)


def test_tolerance_on_probabilities_is_absolute(forest: Case) -> None:
    """A shift of 2e-6 is wrong in every row, one of 5e-7 in none."""
    over, under = shifted(forest, by=2e-6), shifted(forest, by=5e-7)
    assert (False, True) == (over.is_exact, under.is_exact)
    assert sum(over.rows.values()) == over.wrong


def test_tolerance_on_values_is_relative() -> None:
    """Large values may differ by more than 1e-6, not by more than 1e-6 of themselves."""
    frame = customers(300)
    model = RandomForestRegressor(5, random_state=0)
    case = compiled(piped(SimpleImputer(), ONE_HOT, model).fit(frame, amounts(frame) * 1e9), frame)
    assert (True, False) == (shifted(case, factor=1 + 5e-7).is_exact, shifted(case, factor=1 + 2e-6).is_exact)


def test_one_flip_is_enough(forest: Case) -> None:
    """Labels count on their own: a flip is wrong though every probability is equal, and its row is told."""
    proof = shifted(forest, turned=1)
    assert (False, 1, "label") == (proof.is_exact, proof.rows and 1, proof.first_flip and proof.first_flip.output)
    assert set(forest.schema.names) == set(proof.offence.row if proof.offence else {})


@pytest.mark.parametrize("towards", [np.inf, -np.inf])
@pytest.mark.parametrize(
    "model", [RandomForestClassifier(8, random_state=0), HistGradientBoostingClassifier(max_iter=5)]
)
def test_thresholds_one_double_off_are_rejected(model: Any, towards: float) -> None:
    """A graph whose split thresholds are the next double up, or down, is rejected: straddling leaves no gap."""
    frame = customers(300)[["age", "visits"]]
    fitted = make_pipeline(StandardScaler(), model).fit(frame, churned(customers(300)))
    schema, outputs = open_schema(frame), output_spec(fitted)
    graph = onnx.load_from_string(compile_graph(fitted, schema, outputs).graph)
    trees = next(node for node in graph.graph.node if node.op_type == "TreeEnsemble")
    splits = next(attribute for attribute in trees.attribute if attribute.name == "nodes_splits")
    moved = np.nextafter(numpy_helper.to_array(splits.t), towards)
    splits.t.CopyFrom(numpy_helper.from_array(moved))
    loaded = load_onnx(graph.SerializeToString(), schema, outputs)
    original = SklearnPredictor(fitted, schema, outputs)
    proof = Case(fitted, schema, columns_of(frame, schema), original, loaded).proof()
    assert (False, True) == (proof.is_exact, proof.wrong > 0)


def test_thresholds_are_accounted_for(forest: Case) -> None:
    """Every threshold is met, unreachable or out of budget; with budget enough each numeric one is straddled."""
    proof = forest.proof(100_000)
    told = proof.thresholds
    assert told.total == told.met + told.unreachable + told.out_of_budget
    assert (0, 2 * told.straddled) == (told.out_of_budget, proof.rows["threshold"])
    assert told.straddled > 50


def test_personal_values_are_hidden() -> None:
    """The proof, which is sealed and shown, hides the values of fields with a `pii` class; the caller has the row."""
    frame = customers()[["age", "visits"]]
    schema = open_schema(frame)
    named = msgspec.structs.replace(schema.fields[0], pii="birth")
    model = RandomForestClassifier(5, random_state=0).fit(frame, churned(customers()))
    case = compiled(model, frame, msgspec.structs.replace(schema, fields=(named, schema.fields[1])))
    proven = prove(
        case.original,
        Shifted(case.graph, by=0.5),
        estimator=model,
        schema=case.schema,
        outputs=case.original.outputs,
        columns=case.columns,
        budget=5,
    )
    assert proven.proof.offence is not None and proven.offence is not None
    assert ("(hidden)", True) == (proven.proof.offence.row["age"], isinstance(proven.offence.row["age"], float))


def test_budget_limits_straddling(forest: Case) -> None:
    """No more thresholds are straddled than the budget allows."""
    assert 7 == forest.proof(7).thresholds.straddled


def test_rows_that_the_original_refuses_are_counted() -> None:
    """Rows on which the original raises are left out of the comparison and counted by origin."""
    frame = customers()[["age", "visits"]]
    model = make_pipeline(FunctionTransformer(np.log), LogisticRegression(max_iter=500))
    frame = frame.assign(visits=frame["visits"] + 1.0, age=frame["age"] + 1.0)
    proof = compiled(model.fit(frame, churned(customers())), frame).proof()
    assert (True, True) == (proof.is_exact, proof.refused["extreme"] > 0)


def test_proof_is_deterministic(forest: Case) -> None:
    """The same model and sample give the same proof, to the last byte."""
    assert msgspec.json.encode(forest.proof(50)) == msgspec.json.encode(forest.proof(50))


def test_failing_candidate_is_part_of_the_proof(forest: Case) -> None:
    """A candidate that raises is rejected with what it said."""

    class Broken:
        def run(self, columns: Columns) -> Outputs:
            raise ModelFailed("the graph broke")

    proof = prove(
        forest.original,
        Broken(),
        estimator=forest.estimator,
        schema=forest.schema,
        outputs=forest.original.outputs,
        columns=forest.columns,
        budget=5,
    ).proof
    assert (False, "the graph broke") == (proof.is_exact, proof.failure)


def test_adversarial_rows_come_back() -> None:
    """The rows beyond the sample are returned as columns, with every category and a missing value among them."""
    frame = customers(300)
    model = HistGradientBoostingClassifier(max_iter=3)
    case = compiled(piped("passthrough", ONE_HOT, model).fit(frame, churned(frame)), frame)
    rows = prove(
        case.original,
        case.graph,
        estimator=case.estimator,
        schema=case.schema,
        outputs=case.original.outputs,
        columns=case.columns,
    ).adversarial
    assert {"Köln", "北京", "Oslo", "Lima", None} <= set(rows["city"])
    assert np.isnan(rows["income"]).any()
