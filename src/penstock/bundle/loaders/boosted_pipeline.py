"""A native pipeline that ends in a booster: `model.parts` holds the steps before it (skops) and the booster's file."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Collection
from typing import Any, Final

from penstock.bundle.loaders.booster import BoosterPredictor
from penstock.bundle.loaders.sklearn import SklearnPredictor
from penstock.bundle.loaders.skops_file import dump_skops, read_skops
from penstock.bundle.native_file import NativeFile
from penstock.bundle.outputs import OutputSpec
from penstock.bundle.parts import read_parts, written_parts
from penstock.errors import BundleRefused
from penstock.schema import Columns, Schema

FILES: Final = {"xgboost": "model.ubj", "lightgbm": "model.txt", "catboost": "model.cbm"}
"""The file of each library's own format, by the key of its loader."""

PARTS_FILE: Final = "model.parts"
_BEFORE: Final = "preprocessing.skops"


def boosted_file(estimator: Any, trusted: Collection[str] = ()) -> NativeFile | None:
    """A fitted booster, or a pipeline that ends in one, as a native model file; None for any other estimator.

    The same bytes for the same model, in every process. Raises PackRefused naming the step that a file cannot hold.
    """
    if hasattr(estimator, "best_estimator_"):
        return boosted_file(estimator.best_estimator_, trusted)
    before, last = _unwrapped(estimator)
    library = type(last).__module__.partition(".")[0]
    if library not in FILES:
        return None
    booster: bytes = getattr(_module(library), f"{library}_file")(last)
    if not before:
        return NativeFile(library, FILES[library], booster)
    steps = copy.copy(estimator)
    steps.steps = before
    parts = {_BEFORE: dump_skops(steps, trusted), FILES[library]: booster}
    return NativeFile("boosted_pipeline", PARTS_FILE, written_parts(parts))


def load_boosted_pipeline(
    data: bytes, schema: Schema, outputs: OutputSpec, trusted: Collection[str] = ()
) -> BoosterPredictor:
    """The predictor of `model.parts`. Raises BundleRefused for other parts than the two, or a type not trusted."""
    parts = read_parts(data, PARTS_FILE)
    library = next((key for key, name in FILES.items() if set(parts) == {_BEFORE, name}), None)
    if library is None:
        raise BundleRefused(
            f"{PARTS_FILE}: expected {_BEFORE} and one of {', '.join(FILES.values())}, got {', '.join(sorted(parts))}"
        )
    scorer = getattr(_module(library), f"{library}_scorer")(parts[FILES[library]], outputs)
    steps = read_skops(parts[_BEFORE], trusted)
    training = SklearnPredictor(steps, schema, outputs)

    def rows(columns: Columns) -> Any:
        return training.quietly(steps.transform, training.rows_of(columns))

    return BoosterPredictor(scorer, rows)


def _unwrapped(estimator: Any) -> tuple[list[Any], Any]:
    """The steps before the last estimator, through pipelines in pipelines; steps that pass everything are left out."""
    if not hasattr(estimator, "steps"):
        return [], estimator
    inner, last = _unwrapped(estimator.steps[-1][1])
    own = [(name, step) for name, step in estimator.steps[:-1] if step is not None and not isinstance(step, str)]
    return own + inner, last


def _module(library: str) -> Any:
    """The loader's module; imported by name, so that no other library's is."""
    return importlib.import_module(f"penstock.bundle.loaders.{library}")
