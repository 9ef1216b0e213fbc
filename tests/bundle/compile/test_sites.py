"""The places where estimators ask about values, in nested ones too, and the rows that they see there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from customer_table import churned, compiled, customers, piped
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from penstock.bundle.compile.splits import TreeView

TREE = DecisionTreeClassifier(max_depth=3, random_state=0)


def thresholds_of(estimator: Any) -> int:
    """How many distinct questions are read from a fitted pipeline."""
    frame = customers(200)
    fitted = piped([SimpleImputer(), StandardScaler()], OneHotEncoder(handle_unknown="ignore"), estimator)
    return len(TreeView(compiled(fitted.fit(frame, churned(frame)), frame).original).splits.feature)


@pytest.mark.parametrize(
    "wrapped",
    [
        VotingClassifier([("a", TREE), ("b", LogisticRegression())]),
        CalibratedClassifierCV(TREE, cv=2),
        BaggingClassifier(TREE, n_estimators=3, max_features=0.6, random_state=0),
        BaggingClassifier(RandomForestClassifier(2, max_depth=2), n_estimators=2, max_features=0.6, random_state=0),
        BaggingClassifier(make_pipeline(StandardScaler(), TREE), n_estimators=2, max_features=0.6, random_state=0),
        StackingClassifier([("a", LogisticRegression())], final_estimator=TREE, cv=2),
        VotingClassifier(
            [("a", make_pipeline(KBinsDiscretizer(3, subsample=None, strategy="uniform"), LogisticRegression()))]
        ),
    ],
    ids=["voting", "calibrated", "bagging", "bagging of forests", "bagging of pipelines", "stacking", "bins within"],
)
def test_questions_of_nested_estimators_are_found(wrapped: Any) -> None:
    """Trees and bins inside ensembles and inner pipelines ask questions that the proof can straddle."""
    assert thresholds_of(wrapped) > 0


def test_what_is_seen_once_is_shared() -> None:
    """Two forests on the same rows see the same columns: their questions are joined, not doubled."""
    forest = RandomForestClassifier(3, max_depth=3, random_state=0)
    alone, twice = thresholds_of(forest), thresholds_of(VotingClassifier([("a", forest), ("b", forest)]))
    assert alone == twice


def test_columns_of_a_member_are_real_columns() -> None:
    """A tree that was fitted on some columns asks about these columns of the whole."""
    frame = customers(200)
    bagging = BaggingClassifier(TREE, n_estimators=4, max_features=0.4, random_state=1)
    pipeline = piped([SimpleImputer()], OneHotEncoder(handle_unknown="ignore"), bagging).fit(frame, churned(frame))
    view = TreeView(compiled(pipeline, frame).original)
    asked = {
        int(columns[feature])
        for member, columns in zip(
            bagging_of(pipeline).estimators_, bagging_of(pipeline).estimators_features_, strict=True
        )
        for feature in member.tree_.feature[member.tree_.feature >= 0]
    }
    assert asked == set(np.unique(view.splits.feature).tolist())


def bagging_of(pipeline: Any) -> Any:
    """The last step."""
    return pipeline.named_steps["model"]
