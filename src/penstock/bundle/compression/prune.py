"""The subject, pruned: a smaller original, which everything after it is proven against."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import numpy as np

from penstock.bundle.compile.rows import count_of
from penstock.bundle.compression.forest import fewer_trees, tree_count
from penstock.bundle.compression.perceptron import fewer_units, is_perceptron
from penstock.bundle.loaders.net import NetPredictor, feeds_of
from penstock.bundle.loaders.sklearn import SklearnPredictor
from penstock.bundle.nets.model import NetModel
from penstock.bundle.subject import Subject
from penstock.errors import PackRefused
from penstock.schema import Columns


def pruned(subject: Subject, share: float, columns: Columns, truth: np.ndarray) -> tuple[Subject, str]:
    """The subject with that share of its trees or hidden units gone, chosen and refitted on these rows; what was done.

    Raises PackRefused for a model that has neither, and for a share outside (0, 1).
    """
    if not 0.0 < share < 1.0:
        raise PackRefused("prune", f"expected a share between 0 and 1, got {share:g}", "Say 0.5 to leave out a half")
    if isinstance(subject.estimator, NetModel):
        return _net(subject, subject.estimator, share, columns)
    estimator = copy.deepcopy(subject.estimator)
    last = last_step(estimator)
    rows = _before_last(estimator, SklearnPredictor(estimator, subject.schema, subject.outputs).rows_of(columns))
    if is_perceptron(last):
        said = fewer_units(last, np.asarray(rows, dtype=np.float64), share)
    else:
        trees = tree_count(last)
        said = fewer_trees(last, rows, truth, max(1, trees - int(share * trees)))
    original = SklearnPredictor(estimator, subject.schema, subject.outputs)
    return msgspec.structs.replace(subject, estimator=estimator, original=original), said


def last_step(estimator: Any) -> Any:
    """The last estimator of pipelines and searches, however nested."""
    while hasattr(estimator, "steps") or hasattr(estimator, "best_estimator_"):
        estimator = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator.best_estimator_
    return estimator


def _before_last(estimator: Any, rows: Any) -> Any:
    """The rows as the last estimator gets them."""
    if hasattr(estimator, "best_estimator_"):
        return _before_last(estimator.best_estimator_, rows)
    if not hasattr(estimator, "steps"):
        return rows
    for _, part in estimator.steps[:-1]:
        rows = rows if part is None or part == "passthrough" else part.transform(rows)
    return _before_last(estimator.steps[-1][1], rows)


def _net(subject: Subject, net: NetModel, share: float, columns: Columns) -> tuple[Subject, str]:
    if net.opened.narrowed is None:
        raise PackRefused("prune", f"{net.model_class} cannot be pruned", "Prune the PyTorch module that it came from")
    feeds = feeds_of(net.spec, columns)
    if len(feeds) != 1 or not count_of(columns):
        raise PackRefused("prune", f"it has {len(feeds)} inputs", "Prune modules of one input")
    opened, said = net.opened.narrowed(feeds, share)
    original = NetPredictor(opened.net, net.spec, subject.outputs)
    return msgspec.structs.replace(
        subject, estimator=msgspec.structs.replace(net, opened=opened), original=original
    ), said  # fmt: skip
