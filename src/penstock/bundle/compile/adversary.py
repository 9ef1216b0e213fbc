"""Rows made to find a difference: missing values, unknown and rare categories, numbers at the ends of the scale.

Only rows that the schema lets through: what it refuses can never reach the graph.
"""

from __future__ import annotations

import numpy as np

from penstock.bundle.compile.lattice import lattice_of
from penstock.bundle.compile.rows import count_of, joined, repeated, taken, with_values
from penstock.bundle.compile.unicode_texts import worded_texts
from penstock.schema import Columns, Field, Schema

_BASES = 32
_MOST_CATEGORIES = 256
_STRANGE_TEXTS = ("\u2603 never seen", "", " ", "nan", "None", "NaN", "0", "1.0", "\u00e9\u4f60\U0001f600", "x" * 300)
_NUMBERS = (0.0, -0.0, 1e-300, -1e-300, 5e-324, 1.0, -1.0, 1e18, -1e18, 1e300, -1e300)


def adversarial_rows(columns: Columns, schema: Schema, *, seed: int = 0) -> dict[str, Columns]:
    """Rows by origin (missing, category, unknown, extreme), each a row of the sample with something changed."""
    bases = taken(columns, np.random.default_rng(seed).integers(0, count_of(columns), _BASES))
    return {
        "missing": _missing(bases, schema),
        "category": _categories(bases, columns, schema),
        "unknown": _unknown(bases, columns, schema),
        "extreme": _extremes(bases, columns, schema),
    }


def _missing(bases: Columns, schema: Schema) -> Columns:
    nullable = [field for field in schema.fields if field.nullable]
    parts = [with_values(bases, field.name, _null(bases, field)) for field in nullable]
    every = dict(bases)
    for field in nullable:
        every = with_values(every, field.name, _null(bases, field))
    return joined([*parts, every]) if nullable else taken(bases, np.zeros(0, np.int64))


def _null(bases: Columns, field: Field) -> np.ndarray:
    column = bases[field.name]
    null = None if column.dtype == np.dtype(object) else np.datetime64("NaT") if column.dtype.kind == "M" else np.nan
    return np.full(len(column), null, dtype=column.dtype)


def _varied(bases: Columns, name: str, values: list[object]) -> Columns:
    """One row per value, on the base rows in turn."""
    rows = taken(bases, np.arange(len(values)) % count_of(bases))
    column = np.empty(len(values), dtype=bases[name].dtype)
    column[:] = values
    return with_values(rows, name, column)


def _categories(bases: Columns, columns: Columns, schema: Schema) -> Columns:
    """Each category that is allowed, or that the sample has."""
    parts = [taken(bases, np.zeros(0, np.int64))]
    for field in schema.fields:
        if field.allowed is not None:
            values = list(field.allowed)
        elif field.type in ("string", "category"):
            values = sorted({text for text in columns[field.name] if text is not None})
        else:
            continue
        parts.append(_varied(bases, field.name, list(values[:_MOST_CATEGORIES])))
    return joined(parts)


def _unknown(bases: Columns, columns: Columns, schema: Schema) -> Columns:
    """Texts that no training row had, where the schema lets them through."""
    parts = [taken(bases, np.zeros(0, np.int64))]
    for field in schema.fields:
        is_open = field.type == "string" and field.allowed is None
        if is_open or (field.type == "category" and (field.on_unknown == "accept" or field.allowed is None)):
            worded = worded_texts(columns[field.name]) if field.type == "string" else []
            parts.append(_varied(bases, field.name, [*_STRANGE_TEXTS, *_near(field), *worded]))
    return joined(parts)


def _near(field: Field) -> list[object]:
    """The first category in another case, with a space, cut short."""
    first = next((text for text in field.allowed or () if isinstance(text, str) and text), None)
    return [] if first is None else [first.swapcase(), f"{first} ", first[:-1]]


def _extremes(bases: Columns, columns: Columns, schema: Schema) -> Columns:
    """Numbers of every magnitude within the field's range, and the ends of the range."""
    parts = [taken(bases, np.zeros(0, np.int64))]
    for field in schema.fields:
        if field.type in ("float", "int") and field.allowed is None:
            values = _ends(field, columns[field.name])
            parts.append(_varied(bases, field.name, list(values)))
        elif field.type == "bool":
            parts.append(
                with_values(repeated(taken(bases, np.zeros(1, np.int64)), 2), field.name, np.array([0.0, 1.0]))
            )
    return joined(parts)


def _ends(field: Field, column: np.ndarray) -> np.ndarray:
    known = column[np.isfinite(column)]
    scale = max(float(np.abs(known).max()), 1.0) if len(known) else 1.0
    lattice = lattice_of(field)
    wanted = np.array([*_NUMBERS, scale, -scale, 1e9 * scale, -1e9 * scale])
    inside = wanted[(wanted >= lattice.low) & (wanted <= lattice.high)]
    ends = [end for end in (field.range or ()) if end is not None]
    # Zeros of both signs are two values: np.unique would make them one.
    values = lattice.values(lattice.places(np.array([*inside, *ends, float(known.min() if len(known) else 0.0)])))
    _, first = np.unique(lattice.places(values), return_index=True)
    return np.asarray(values[np.sort(first)])
