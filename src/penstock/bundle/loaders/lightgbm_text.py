"""The text of a LightGBM model, read before LightGBM reads it: on a broken tree the library ends the whole process, and
it follows whatever indices the text has.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from penstock.errors import BundleRefused

_END: Final = "end of trees"
_BY_CATEGORY: Final = 1


def checked_text(data: bytes) -> str:
    """The text of a whole model whose trees lead nowhere but to their own leaves. Raises BundleRefused."""
    try:
        text = data.decode()
        head, *trees = text.partition(_END)[0].split("Tree=")
        parameters = text.partition("\nparameters:")[2]
        is_whole = _END in text and (not parameters or "\nend of parameters\n" in parameters)
        last = text.rstrip("\n").rpartition("\n")[2]
        if not (text.startswith("tree\n") and is_whole and last.startswith("pandas_categorical:")):
            raise ValueError("the text does not begin or end as a model does")
        settings = settings_of(head)
        features = int(settings["max_feature_idx"]) + 1
        _require(int(settings["num_class"]) > 0 and int(settings["num_tree_per_iteration"]) > 0, "no classes")
        # LightGBM finds the trees by these sizes.
        sizes = [len(f"Tree={tree}".encode()) for tree in trees]
        _require(sizes == list(map(int, settings["tree_sizes"].split())), "trees of other sizes than stated")
        for tree in trees:
            _check_tree(settings_of(tree), features)
    except (UnicodeDecodeError, ValueError, KeyError, IndexError) as error:
        raise BundleRefused(f"model.txt: not a LightGBM model in one piece ({error}): pack the model again") from error
    return text


def settings_of(text: str) -> dict[str, str]:
    """The lines `name=value`; a line that is only a name has an empty value."""
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def numbers_of(section: dict[str, str], name: str, dtype: Any) -> np.ndarray:
    """The numbers of one line, none where there is no such line. Raises ValueError for what is no number."""
    return np.array(section.get(name, "").split(), dtype=dtype)


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise ValueError(otherwise)


def _check_tree(section: dict[str, str], features: int) -> None:
    leaves = int(section["num_leaves"])
    inner = leaves - 1
    values = numbers_of(section, "leaf_value", np.float64)
    _require(leaves >= 1 and len(values) == leaves, "leaves without values")
    names = ("split_feature", "decision_type", "left_child", "right_child")
    feature, kind, left, right = (numbers_of(section, name, np.int64) for name in names)
    threshold = numbers_of(section, "threshold", np.float64)
    _require(all(len(of) == inner for of in (feature, kind, left, right, threshold)), "splits without all their parts")
    _require(bool(((feature >= 0) & (feature < features)).all()), "a split of a feature that is not there")
    # Every node but the root is the child of one node that comes before it: so no walk goes round.
    children = np.concatenate([left, right])
    _require(len(np.unique(children)) == len(children) == 2 * inner, "a node with two parents")
    _require(bool(((children < inner) & (children >= -leaves)).all()), "a child that is not there")
    below = children >= 0
    _require(bool((children[below] > np.tile(np.arange(inner), 2)[below]).all()), "a tree that leads back")
    _check_categories(section, threshold[(kind & _BY_CATEGORY) > 0])
    if section.get("is_linear", "0") == "1":
        _check_linear(section, leaves, features)


def _check_categories(section: dict[str, str], which: np.ndarray) -> None:
    ends = numbers_of(section, "cat_boundaries", np.int64)
    words = numbers_of(section, "cat_threshold", np.int64)
    count = int(section["num_cat"])
    _require(len(which) == count and bool(((which >= 0) & (which < max(count, 1))).all()), "a set of categories amiss")
    _require(len(ends) == (count + 1 if count else 0), "sets of categories without their ends")
    if count:
        is_rising = bool((np.diff(ends) >= 0).all())
        _require(ends[0] == 0 and ends[-1] == len(words) and is_rising, "sets of categories with other ends")


def _check_linear(section: dict[str, str], leaves: int, features: int) -> None:
    counts = numbers_of(section, "num_features", np.int64)
    used = numbers_of(section, "leaf_features", np.int64)
    factors = numbers_of(section, "leaf_coeff", np.float64)
    constants = numbers_of(section, "leaf_const", np.float64)
    _require(len(counts) == len(constants) == leaves and bool((counts >= 0).all()), "linear leaves without parts")
    _require(len(used) == len(factors) == int(counts.sum()), "linear leaves without factors")
    _require(bool(((used >= 0) & (used < features)).all()), "a linear leaf of a feature that is not there")
