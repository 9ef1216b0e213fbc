"""Rows as columns: picking, repeating, joining. Every function returns new columns and leaves its arguments alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penstock.schema import Columns


def count_of(columns: Columns) -> int:
    """The number of rows."""
    return len(next(iter(columns.values()), ()))


def taken(columns: Columns, rows: np.ndarray) -> Columns:
    """These rows, by number, in this order."""
    return {name: column[rows] for name, column in columns.items()}


def repeated(columns: Columns, times: int) -> Columns:
    """One row many times."""
    return {name: np.repeat(column, times) for name, column in columns.items()}


def with_values(columns: Columns, name: str, values: np.ndarray) -> Columns:
    """The columns with one replaced."""
    return {**columns, name: np.asarray(values, dtype=columns[name].dtype)}


def joined(parts: Sequence[Columns]) -> Columns:
    """The rows of all parts, one part after the other; at least one part."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def row_of(columns: Columns, row: int) -> dict[str, float | str | None]:
    """One row as plain values: missing is None, an instant is text."""
    return {name: _plain(column[row]) for name, column in columns.items()}


def _plain(value: object) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    number = float(value)  # type: ignore[arg-type]
    return None if np.isnan(number) else number
