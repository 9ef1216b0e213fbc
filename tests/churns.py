"""Versions of the model `churn` as they come one after the other: all of one bundle, sealed anew."""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.bundle.bundle import Bundle
from penstock.bundle.evaluation import Evaluation
from penstock.schema.yaml_form import schema_to_yaml
from variants import variant


def churn_versions(churn: Path, out: Path) -> dict[str, Path]:
    """Bundles of `churn`: `first`, `second` and `worse` take the same rows, `worse` has learnt less, `narrow` takes no
    age above 120; `renamed` answers other classes.
    """
    bundle = Bundle.open(churn)
    fields = tuple(
        msgspec.structs.replace(field, range=(0, 120)) if field.name == "age" else field
        for field in bundle.schema.fields
    )
    narrow = msgspec.structs.replace(bundle.schema, fields=fields)
    renamed = msgspec.structs.replace(bundle.outputs, classes=("gone", "here"))
    return {
        "first": variant(churn, out, 0, evaluation__json=_evaluation(0.9)),
        "second": variant(churn, out, 1, evaluation__json=_evaluation(0.89)),
        "worse": variant(churn, out, 2, evaluation__json=_evaluation(0.7)),
        "narrow": variant(
            churn, out, 3, schema__yaml=schema_to_yaml(narrow).encode(), evaluation__json=_evaluation(0.9)
        ),
        "renamed": variant(churn, out, 4, outputs__json=msgspec.json.encode(renamed)),
    }


def _evaluation(roc_auc: float) -> bytes:
    return msgspec.json.encode(Evaluation({"roc_auc": roc_auc}, {}, 100, "sha256:0123456789ab"))
