"""Rows for a layout that ships none: made up from its scaler, its encoders and its model's own split thresholds."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from penstock.bundle.importers.founding_folder import FoundingFolder
from penstock.schema import Field, Schema

ROWS: Final = 1000
_WIDE: Final = 3.0
_UNSEEN: Final = "never seen"


def made_up_rows(folder: FoundingFolder, schema: Schema) -> tuple[pd.DataFrame, str]:
    """`ROWS` rows that the schema takes, the same each time, and a sentence on how they were made.

    Numbers lie around the scaler's centre (over its range, where it knows that) and, as many, around the thresholds
    of the model's trees; texts are the encoder's values, and now and then an unseen one where it takes them.
    """
    random = np.random.default_rng(0)
    thresholds = _thresholds(folder)
    made = {field.name: _values(field, folder, thresholds, random) for field in schema.fields}
    frame = pd.DataFrame(made).astype({field.name: str(field.dtype) for field in schema.fields})
    sources = ["the scaler's statistics"] if folder.scaler is not None else []
    sources += ["the encoders' classes"] if folder.encoders else []
    sources += ["the split thresholds of the model"] if thresholds else []
    return frame, f"{ROWS:,} rows made up from {', '.join(sources) or 'the schema'}; the layout ships no training rows"


def _values(
    field: Field, folder: FoundingFolder, thresholds: dict[str, np.ndarray], random: np.random.Generator
) -> np.ndarray:
    if field.type == "category":
        known = [*(field.allowed or ()), *([_UNSEEN] if field.on_unknown == "accept" else [])]
        return np.array(known, dtype=object)[random.integers(0, len(known), ROWS)]
    low, high = _spread(field.name, folder)
    values = random.uniform(low, high, ROWS)
    near = thresholds.get(field.name)
    if near is not None and len(near):
        scale, shift = _scale(field.name, folder)
        split = random.choice(near, ROWS) * scale + shift + random.normal(0.0, 0.01, ROWS) * scale
        values = np.where(random.random(ROWS) < 0.5, values, split)
    values = np.clip(np.nan_to_num(values), -1e15, 1e15)
    return np.trunc(values) if field.type == "int" else values


def _spread(name: str, folder: FoundingFolder) -> tuple[float, float]:
    """An interval in which raw values of the field lie, as far as the scaler knows."""
    place = _place(name, folder.scaler, folder)
    if place is None:
        return -_WIDE, _WIDE
    scaler = folder.scaler
    if getattr(scaler, "data_min_", None) is not None:
        return float(scaler.data_min_[place]), float(scaler.data_max_[place])
    scale, shift = _scale(name, folder)
    return shift - _WIDE * scale, shift + _WIDE * scale


def _scale(name: str, folder: FoundingFolder) -> tuple[float, float]:
    """`(a, b)` with raw = a * scaled + b, asked of the scaler itself."""
    place = _place(name, folder.scaler, folder)
    if place is None or not hasattr(folder.scaler, "inverse_transform"):
        return 1.0, 0.0
    width = int(folder.scaler.n_features_in_)
    scaler = _without_names(folder.scaler)
    zero, one = scaler.inverse_transform(np.vstack([np.zeros(width), np.ones(width)]))[:, place]
    return float(one - zero) or 1.0, float(zero)


def _without_names(scaler: Any) -> Any:
    plain = copy.copy(scaler)
    vars(plain).pop("feature_names_in_", None)
    return plain


def _place(name: str, scaler: Any, folder: FoundingFolder) -> int | None:
    if scaler is None:
        return None
    names = getattr(scaler, "feature_names_in_", None)
    known = [f.name for f in folder.schema.fields if f.dtype != "str"] if names is None else [str(n) for n in names]
    return known.index(name) if name in known else None


def _thresholds(folder: FoundingFolder) -> dict[str, np.ndarray]:
    """The split thresholds of scikit-learn's trees in the model, by its column."""
    found: dict[int, list[np.ndarray]] = {}
    for tree in _trees(folder.model):
        inner = tree.feature >= 0
        for column in np.unique(tree.feature[inner]):
            found.setdefault(int(column), []).append(tree.threshold[inner & (tree.feature == column)])
    names = folder.schema.final_feature_cols
    return {names[column]: np.unique(np.concatenate(parts)) for column, parts in found.items() if column < len(names)}


def _trees(model: Any) -> Iterator[Any]:
    if hasattr(model, "tree_"):
        yield model.tree_
        return
    inner = getattr(model, "estimators_", None)
    for part in np.ravel(np.asarray(inner, dtype=object)) if inner is not None else ():
        yield from _trees(part)
