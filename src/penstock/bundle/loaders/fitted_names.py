"""The columns that an estimator was fitted on: scikit-learn's attribute, and what boosters have in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def fitted_names(estimator: Any) -> tuple[str, ...] | None:
    """The columns of the frame that the estimator was fitted on, in its order; None when it saw a plain array."""
    if hasattr(estimator, "best_estimator_"):
        return fitted_names(estimator.best_estimator_)
    if hasattr(estimator, "steps"):
        return fitted_names(estimator.steps[0][1])
    library = type(estimator).__module__.partition(".")[0]
    kept = getattr(estimator, "feature_names_" if library == "catboost" else "feature_names_in_", None)
    if kept is None:
        return None
    names = tuple(map(str, kept))
    made_up = _MADE_UP.get(library)
    is_array = made_up is not None and names == tuple(map(made_up, range(len(names))))
    return None if is_array else names


_MADE_UP: dict[str, Callable[[int], str]] = {"catboost": str, "lightgbm": "Column_{}".format}
"""The names that a library gives the columns of an array."""
