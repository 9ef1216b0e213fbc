"""The rules of an alias against a version's evaluation: floors, and how much worse than the champion. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from penstock.control.changes import Published, Rules

_ERROR: Final = re.compile(
    r"r?msl?e|s?mape|mae|mase|brier(_score)?(_loss)?|logloss|(?!neg_)(.+_)?(error|loss|deviance)(_rate)?"
)
"""Metrics of which less is better; of all others more is. scikit-learn's `neg_…` are turned round."""


def is_error(metric: str) -> bool:
    """Whether less of this metric is better."""
    return _ERROR.fullmatch(metric.lower()) is not None


def broken_rules(rules: Rules, candidate: Published, champion: Published | None) -> list[str]:
    """Each rule that `candidate` breaks, in words. Without a champion nothing can be worse than it."""
    return [*_below_floors(rules, candidate), *_worse(rules, candidate, champion)]


def _below_floors(rules: Rules, candidate: Published) -> Iterator[str]:
    for metric, floor in sorted(rules.floors.items()):
        value = candidate.metrics.get(metric)
        bound = "at most" if is_error(metric) else "at least"
        if value is None:
            yield f"{metric} is to be {bound} {floor:g}, and the evaluation does not have it"
        elif _is_worse(metric, value, floor):
            yield f"{metric} is {value:.6g}, to be {bound} {floor:g}"


def _worse(rules: Rules, candidate: Published, champion: Published | None) -> Iterator[str]:
    if champion is None or champion.digest == candidate.digest:
        return
    if rules.max_loss and (candidate.evaluation_set is None or candidate.evaluation_set != champion.evaluation_set):
        yield (
            f"{', '.join(sorted(rules.max_loss))} cannot be compared with the champion's: the evaluation sets differ "
            f"({_short(candidate.evaluation_set)}, the champion's {_short(champion.evaluation_set)})"
        )
        return
    for metric, loss in sorted(rules.max_loss.items()):
        ours, theirs = candidate.metrics.get(metric), champion.metrics.get(metric)
        if ours is None or theirs is None:
            whose = "the version's" if ours is None else "the champion's"
            yield f"{metric} cannot be compared with the champion's: {whose} evaluation does not have it"
        elif _is_worse(metric, ours, theirs + loss if is_error(metric) else theirs - loss):
            yield f"{metric} is {ours:.6g}, the champion's is {theirs:.6g}: worse by more than {loss:g}"


def _is_worse(metric: str, value: float, bound: float) -> bool:
    is_better = value <= bound if is_error(metric) else value >= bound  # a NaN is neither
    return not is_better


def _short(digest: str | None) -> str:
    return "none is stated" if digest is None else digest.removeprefix("sha256:")[:12]
