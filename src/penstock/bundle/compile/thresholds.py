"""Straddling split thresholds: raw values on both sides of a split, as near to each other as such values can be.

For each split a raw field is found that moves the split's feature; the raw value is then bisected through the fitted
preprocessing until the branch changes between two neighbours. All splits are bisected together, one batch a step.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from penstock.bundle.compile.lattice import Lattice, lattice_of
from penstock.bundle.compile.rows import count_of, repeated, taken, with_values
from penstock.bundle.compile.splits import Splits, TreeView
from penstock.schema import Columns, Schema

_GRID_QUANTILES = 65
_LONGEST_BISECTION = 66


class Straddled(msgspec.Struct, frozen=True):
    """The rows that straddle, two by two, and the splits that they belong to; all numbers into `Splits`.

    `attempted`: those that were tried; `immovable`: those whose feature no numeric field moves.
    """

    rows: Columns
    splits: np.ndarray
    attempted: np.ndarray
    immovable: np.ndarray


class _Probe(msgspec.Struct, frozen=True):
    """A field, the values that it was set to on one row, and what the trees saw: `seen` `[values, features]`."""

    name: str
    lattice: Lattice
    grid: np.ndarray
    seen: np.ndarray


class _Brackets(msgspec.Struct, frozen=True):
    """For each split of `which`: the field that moves it and two places between which the branch changes."""

    which: np.ndarray
    field: np.ndarray
    low: np.ndarray
    high: np.ndarray


def straddle(view: TreeView, columns: Columns, schema: Schema, *, budget: int, seed: int = 0) -> Straddled:
    """Rows on both sides of up to `budget` splits, spread evenly over the features. Deterministic."""
    splits = view.splits
    probes = _probes(view, columns, schema)
    movable = _movable(probes)
    immovable = np.flatnonzero(~np.isin(splits.feature, movable))
    attempted = chosen_splits(splits, movable, budget, seed=seed)
    brackets = _brackets(splits, attempted, probes)
    if not len(brackets.which):
        return Straddled(taken(columns, brackets.which), brackets.which, attempted, immovable)
    base = taken(columns, np.random.default_rng(seed).integers(0, count_of(columns), len(brackets.which)))
    found = _bisected(view, brackets, probes, base)
    both = [_placed(base, probes, brackets, places) for places in (found.low, found.high)]
    order = np.argsort(np.tile(np.arange(len(brackets.which)), 2), kind="stable")
    rows = {name: np.concatenate([side[name] for side in both])[order] for name in base}
    return Straddled(rows, brackets.which, attempted, immovable)


def _movable(probes: list[_Probe]) -> np.ndarray:
    """The features that some numeric field moves; the others are met by the rows of every category."""
    with np.errstate(invalid="ignore"):
        moved = [np.flatnonzero((probe.seen[1:] != probe.seen[:-1]).any(axis=0)) for probe in probes]
    return np.unique(np.concatenate(moved)) if moved else np.zeros(0, np.int64)


def chosen_splits(splits: Splits, features: np.ndarray, budget: int, *, seed: int) -> np.ndarray:
    """Up to `budget` splits of these features, one of each in turn, in a seeded order within the feature."""
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(np.isin(splits.feature, features)))
    turn = np.zeros(len(shuffled), np.int64)
    for feature in features:
        here = splits.feature[shuffled] == feature
        turn[here] = np.arange(here.sum())
    return np.sort(shuffled[np.lexsort((splits.feature[shuffled], turn))][:budget])


def _probes(view: TreeView, columns: Columns, schema: Schema) -> list[_Probe]:
    """Each numeric field varied over its range on one row of the sample, the others as they are."""
    middle = taken(columns, np.array([count_of(columns) // 2]))
    out = []
    for field in schema.fields:
        if field.type not in ("float", "int", "bool"):
            continue
        lattice = lattice_of(field)
        grid = _grid(columns[field.name], lattice)
        seen = view.values(with_values(repeated(middle, len(grid)), field.name, grid))
        out.append(_Probe(field.name, lattice, grid, seen))
    return out


def _grid(values: np.ndarray, lattice: Lattice) -> np.ndarray:
    """Quantiles of the sample, steps beyond its ends, zero and the range's ends; sorted, each a possible value."""
    known = values[np.isfinite(values)]
    if not len(known):
        known = np.zeros(1)
    spread = max(float(np.ptp(known)), abs(float(known[0])), 1.0)
    beyond = spread * np.array([0.01, 1.0, 100.0, 1e6])
    ends = [known.min() - beyond, known.max() + beyond, np.array([0.0, lattice.low, lattice.high])]
    wanted = np.concatenate([np.quantile(known, np.linspace(0, 1, _GRID_QUANTILES)), *ends])
    return lattice.values(np.unique(lattice.places(wanted)))


def _brackets(splits: Splits, attempted: np.ndarray, probes: list[_Probe]) -> _Brackets:
    """For each attempted split the first field on whose grid the branch changes; splits without one are left out."""
    rows: list[tuple[int, int, int, int]] = []
    places = [probe.lattice.places(probe.grid) for probe in probes]
    for split in attempted:
        for number, probe in enumerate(probes):
            seen = probe.seen[:, splits.feature[split]]
            left = splits.goes_left(seen, np.full(len(seen), split))
            turns = np.flatnonzero((left[1:] != left[:-1]) & ~np.isnan(seen[1:]) & ~np.isnan(seen[:-1]))
            if len(turns):
                at = turns[0]
                rows.append((int(split), number, int(places[number][at]), int(places[number][at + 1])))
                break
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return _Brackets(*(table[:, column].copy() for column in range(4)))


def _bisected(view: TreeView, brackets: _Brackets, probes: list[_Probe], base: Columns) -> _Brackets:
    """The brackets narrowed to neighbours."""
    low, high = brackets.low.copy(), brackets.high.copy()
    side = _sides(view, brackets, probes, base)
    first = side(low, np.arange(len(low)))
    for _ in range(_LONGEST_BISECTION):
        # The unsigned distance cannot overflow; the signed one can.
        wide = np.flatnonzero(high.astype(np.uint64) - low.astype(np.uint64) > 1)
        if not len(wide):
            break
        middle = (low[wide] & high[wide]) + ((low[wide] ^ high[wide]) >> 1)
        same = side(middle, wide) == first[wide]
        low[wide[same]] = middle[same]
        high[wide[~same]] = middle[~same]
    return msgspec.structs.replace(brackets, low=low, high=high)


def _sides(
    view: TreeView, brackets: _Brackets, probes: list[_Probe], base: Columns
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function that says, for places of some brackets, whether the row goes left at the bracket's split."""

    def side(places: np.ndarray, some: np.ndarray) -> np.ndarray:
        part = _Brackets(brackets.which[some], brackets.field[some], brackets.low[some], brackets.high[some])
        seen = view.values(_placed(taken(base, some), probes, part, places))
        own = seen[np.arange(len(some)), view.splits.feature[part.which]]
        return view.splits.goes_left(own, part.which)

    return side


def _placed(base: Columns, probes: list[_Probe], brackets: _Brackets, places: np.ndarray) -> Columns:
    """The base rows, each with its own field set to the value at its place."""
    rows = dict(base)
    for number, probe in enumerate(probes):
        here = brackets.field == number
        if here.any():
            column = rows[probe.name].copy()
            column[here] = probe.lattice.values(places[here])
            rows[probe.name] = column
    return rows
