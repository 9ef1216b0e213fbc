"""All trees as one `ai.onnx.ml` TreeEnsemble in double, on raw columns wherever a threshold can be moved back to them.

ONNX Runtime adds the leaves in the order of the trees, in double, as scikit-learn does: sums are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.graph import ML, Graph, is_field
from penstock.bundle.compile.pullback import pulled_back, sends_missing_left

_LEQ, _MEMBER = 0, 6
_SUM = 1


class Tree(msgspec.Struct, frozen=True):
    """One fitted tree as arrays over its m nodes; node 0 is the root, a leaf has `left < 0`.

    `members[node]` are the category codes that go left, for a split by category; empty elsewhere.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    value: np.ndarray
    members: dict[int, tuple[float, ...]] = msgspec.field(default_factory=dict)


class Scored(msgspec.Struct, frozen=True):
    """A tree and where its leaves go: their values `[m]` are added to the target of that number."""

    tree: Tree
    target: int
    value: np.ndarray


def constant_tree(value: float) -> Tree:
    """A tree of one split with the same leaf on both sides: a baseline that is added first."""
    two = np.array([0, -2, -2])
    return Tree(
        feature=two,
        threshold=np.zeros(3),
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        missing_left=np.zeros(3, bool),
        value=np.full(3, value),
    )


def collapsed(one: Scored) -> Scored:
    """The same tree with every subtree whose leaves are all equal as one leaf.

    A forest's tree gives one `Scored` for each class, and many of its splits tell other classes apart.
    """
    tree, left, bits = one.tree, one.tree.left.copy(), one.value.astype(np.float64).view(np.int64).copy()
    while True:
        inner = np.flatnonzero(left >= 0)
        ends = (left[left[inner]] < 0) & (left[tree.right[inner]] < 0)
        same = inner[ends & (bits[left[inner]] == bits[tree.right[inner]])]
        if not len(same):
            break
        bits[same] = bits[left[same]]
        left[same] = -1
    if (left == tree.left).all():
        return one
    kept = _reached(left, tree.right)
    numbers = np.cumsum(kept) - 1
    inner = left[kept] >= 0
    value = bits[kept].view(np.float64)
    slim = Tree(
        feature=tree.feature[kept],
        threshold=tree.threshold[kept],
        left=np.where(inner, numbers[left[kept]], -1),
        right=np.where(inner, numbers[tree.right[kept]], -1),
        missing_left=tree.missing_left[kept],
        value=value,
        members={int(numbers[node]): codes for node, codes in tree.members.items() if kept[node] and left[node] >= 0},
    )
    return Scored(slim, one.target, value)


def _reached(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which nodes the root leads to."""
    kept = np.zeros(len(left), bool)
    level = np.zeros(1, np.int64)
    while len(level):
        kept[level] = True
        level = level[left[level] >= 0]
        level = np.concatenate([left[level], right[level]])
    return kept


def ensemble(graph: Graph, scored: Sequence[Scored], features: Features, *, targets: int, narrow: bool) -> str:
    """The tensor `[n, targets]` of the trees' sums. `narrow`: the original compares float32 values with thresholds."""
    trees = [_grown(one) for one in scored]
    joined = _Joined([one.tree for one in trees])
    raw, column, threshold, missing = _moved(joined, features, narrow=narrow)
    sizes = np.array([int((one.tree.left >= 0).sum()) for one in trees])
    leaf_sizes = np.array([len(one.tree.left) for one in trees]) - sizes
    attributes = {
        "n_targets": targets,
        "aggregate_function": _SUM,
        "post_transform": 0,
        "tree_roots": (np.cumsum(sizes) - sizes).tolist(),
        "nodes_featureids": column.tolist(),
        "nodes_splits": numpy_helper.from_array(threshold),
        "nodes_modes": numpy_helper.from_array(joined.modes),
        "nodes_missing_value_tracks_true": missing.astype(int).tolist(),
        "leaf_targetids": np.repeat([one.target for one in trees], leaf_sizes).tolist(),
        "leaf_weights": leaf_weights(scored),
        **joined.links(),
    }
    if len(joined.members):
        attributes["membership_values"] = numpy_helper.from_array(joined.members)
    return graph.add("TreeEnsemble", [graph.matrix(raw)], width=targets, domain=ML, **attributes)


def leaf_weights(scored: Sequence[Scored]) -> onnx.TensorProto:
    """The values of all leaves in the operator's order."""
    grown = [_grown(one) for one in scored]
    weights = np.concatenate([one.value[one.tree.left < 0] for one in grown]).astype(np.float64)
    return numpy_helper.from_array(weights)


def _grown(one: Scored) -> Scored:
    """A tree that is only a leaf gets one split, which the operator needs."""
    if one.tree.left[0] >= 0:
        return one
    tree = constant_tree(float(one.value[0]))
    return Scored(tree, one.target, tree.value)


class _Joined:
    """The trees' nodes one after the other: inner nodes and leaves are numbered apart, as the operator wants them."""

    def __init__(self, trees: list[Tree]) -> None:
        sizes = [len(tree.left) for tree in trees]
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        left = np.concatenate([tree.left for tree in trees]).astype(np.int64)
        right = np.concatenate([tree.right for tree in trees]).astype(np.int64)
        self._inner = left >= 0
        numbers = np.where(self._inner, np.cumsum(self._inner), np.cumsum(~self._inner)) - 1
        self._sides = {"true": (left + starts)[self._inner], "false": (right + starts)[self._inner]}
        self._numbers = numbers
        self.feature = self._of_inner([tree.feature for tree in trees]).astype(np.int64)
        self.threshold = self._of_inner([tree.threshold for tree in trees]).astype(np.float64)
        self.missing_left = self._of_inner([tree.missing_left for tree in trees]).astype(bool)
        offsets = np.cumsum(sizes) - sizes
        found = {
            int(at + node): kept for at, tree in zip(offsets, trees, strict=True) for node, kept in tree.members.items()
        }
        self.by_category = np.zeros(len(self.feature), bool)
        self.by_category[[numbers[at] for at in found]] = True
        self.modes = np.where(self.by_category, _MEMBER, _LEQ).astype(np.uint8)
        lists = [np.array([*found[at], np.nan]) for at in sorted(found)]
        self.members = np.concatenate(lists) if lists else np.zeros(0)

    def _of_inner(self, arrays: list[np.ndarray]) -> np.ndarray:
        return np.asarray(np.concatenate(arrays)[self._inner])

    def links(self) -> dict[str, list[int]]:
        """The attributes that join nodes to nodes and leaves."""
        out: dict[str, list[int]] = {}
        for side, children in self._sides.items():
            out[f"nodes_{side}nodeids"] = self._numbers[children].tolist()
            out[f"nodes_{side}leafs"] = (~self._inner[children]).astype(int).tolist()
        return out


def _moved(joined: _Joined, features: Features, *, narrow: bool) -> tuple[Features, np.ndarray, np.ndarray, np.ndarray]:
    """The raw columns, and for each inner node its column, its threshold there, and where a missing value goes."""
    column = np.zeros(len(joined.feature), np.int64)
    threshold, missing = joined.threshold.copy(), joined.missing_left.copy()
    raw: dict[tuple[str, int], Feature] = {}
    for index in np.unique(joined.feature):
        lift = features[index].lifted()
        source = Feature(tensor=lift.tensor, index=lift.index, kind="number")
        raw.setdefault((lift.tensor, lift.index), source)
        here = joined.feature == index
        column[here] = list(raw).index((lift.tensor, lift.index))
        split = here & ~joined.by_category
        distinct, inverse = np.unique(joined.threshold[split], return_inverse=True)
        threshold[split] = pulled_back(lift.mapping, distinct, narrow=narrow)[inverse]
        missing[split] = sends_missing_left(
            lift.mapping, joined.threshold[split], joined.missing_left[split], narrow=narrow
        )
    tensors = [_group(tensor) for tensor, _ in raw]
    order = sorted(range(len(raw)), key=lambda place: tensors.index(tensors[place]))
    places = np.argsort(order)
    return tuple(list(raw.values())[place] for place in order), places[column], threshold, missing


def _group(tensor: str) -> str:
    """Raw fields lie side by side; columns of one tensor too."""
    return "" if is_field(tensor) else tensor
