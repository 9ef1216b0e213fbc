"""Where in a fitted estimator values are compared with fixed numbers, and how a raw row gets there.

Pipelines, column transformers, unions and ensembles of any depth are walked; what asks the questions (trees, bins) is a
`Site`. Nothing here knows what the questions are: `splits.py` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np


class Seen:
    """The rows at one place of an estimator: those at the place before, after one step. Identity is the place."""

    def __init__(self, before: Seen | None = None, step: Callable[[Any], Any] | None = None) -> None:
        self._before, self._step = before, step

    def of(self, rows: Any, known: dict[Seen, Any]) -> Any:
        """The raw `rows` as they are here; `known` keeps what was made for other places of the same rows."""
        if self._before is None or self._step is None:
            return rows
        if self not in known:
            known[self] = self._step(self._before.of(rows, known))
        return known[self]


class Site:
    """A part that asks questions of the rows `seen`; `columns` are those that it gets, None for all."""

    def __init__(self, part: Any, seen: Seen, columns: np.ndarray | None = None) -> None:
        self.part, self.seen, self._columns = part, seen, columns

    def real(self, features: np.ndarray) -> np.ndarray:
        """The part's own numbers of features as columns of what is seen."""
        return features if self._columns is None else self._columns[features]


def sites_of(part: Any, seen: Seen) -> Iterator[Site]:
    """The part itself where it holds no others, else the sites of what it holds, in a fixed order."""
    if part is None or isinstance(part, str):
        return
    inner = next((walk for mark, walk in _WALKS.items() if hasattr(part, mark)), None)
    if inner is None or _is_forest(part):
        yield Site(part, _own_coding(part, seen))
    else:
        yield from inner(part, seen)


def _own_coding(part: Any, seen: Seen) -> Seen:
    """Histogram boosting codes its categories itself."""
    if not hasattr(part, "_preprocess_X"):
        return seen
    return Seen(seen, lambda rows: part._preprocess_X(rows, reset=False))


def _is_forest(part: Any) -> bool:
    """Trees that all see the same columns are read together."""
    members = _members(part)
    return len(members) > 0 and all(hasattr(member, "tree_") for member in members) and not _is_split_up(part)


def _members(part: Any) -> list[Any]:
    """The estimators inside; numpy must not see a list of them, for it takes pipelines and forests for sequences."""
    held = getattr(part, "estimators_", [])
    return list(held.ravel()) if isinstance(held, np.ndarray) else list(held)


def _is_split_up(part: Any) -> bool:
    width = getattr(part, "n_features_in_", 0)
    return any(not np.array_equal(own, np.arange(width)) for own in getattr(part, "estimators_features_", ()))


def _in_search(part: Any, seen: Seen) -> Iterator[Site]:
    return sites_of(part.best_estimator_, seen)


def _in_pipeline(part: Any, seen: Seen) -> Iterator[Site]:
    for place, (_, step) in enumerate(part.steps):
        yield from sites_of(step, seen)
        if place < len(part.steps) - 1 and step is not None and not isinstance(step, str):
            seen = Seen(seen, step.transform)


def _in_column_transformer(part: Any, seen: Seen) -> Iterator[Site]:
    for name, fitted, columns in part.transformers_:
        places = part._transformer_to_input_indices[name]
        if not isinstance(fitted, str) and len(places):
            yield from sites_of(
                fitted,
                Seen(
                    seen,
                    partial(_taken, places[0] if np.ndim(columns) == 0 and not isinstance(columns, slice) else places),
                ),
            )


def _taken(places: Any, rows: Any) -> Any:
    return rows.iloc[:, places] if hasattr(rows, "iloc") else rows[:, places]


def _in_union(part: Any, seen: Seen) -> Iterator[Site]:
    for _, fitted in part.transformer_list:
        yield from sites_of(fitted, seen)


def _in_stack(part: Any, seen: Seen) -> Iterator[Site]:
    yield from _in_members(part, seen)
    yield from sites_of(part.final_estimator_, Seen(seen, part.transform))


def _in_calibrated(part: Any, seen: Seen) -> Iterator[Site]:
    for one in part.calibrated_classifiers_:
        yield from sites_of(one.estimator, seen)


def _in_target(part: Any, seen: Seen) -> Iterator[Site]:
    return sites_of(part.regressor_, seen)


def _in_members(part: Any, seen: Seen) -> Iterator[Site]:
    members = _members(part)
    owned = part.estimators_features_ if _is_split_up(part) else [None] * len(members)
    for member, columns in zip(members, owned, strict=True):
        if columns is None:
            yield from sites_of(member, seen)
        elif hasattr(member, "tree_"):
            yield Site(member, seen, np.asarray(columns))
        else:
            yield from sites_of(member, Seen(seen, partial(_taken, columns)))


_WALKS: dict[str, Callable[[Any, Seen], Iterator[Site]]] = {
    "best_estimator_": _in_search,
    "steps": _in_pipeline,
    "transformers_": _in_column_transformer,
    "transformer_list": _in_union,
    "final_estimator_": _in_stack,
    "calibrated_classifiers_": _in_calibrated,
    "regressor_": _in_target,
    "estimators_": _in_members,
}
