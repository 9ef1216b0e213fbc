"""Rows to columns: the hot path's arrays, built with one NumPy call per kind of value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import astuple

from penstock.schema.columns import Columns
from penstock.schema.field import Schema
from penstock.schema.instant import nanoseconds_of

_NUMBERS: Final = frozenset({"float", "int", "bool"})
_TEXTS: Final = frozenset({"string", "category"})
_NAT: Final = np.iinfo(np.int64).min


class Layout:
    """Which places of a row are numbers, texts and instants, and how they become the schema's columns."""

    def __init__(self, schema: Schema) -> None:
        self._names = schema.names
        types = [field.type for field in schema.fields]
        numbers = [place for place, kind in enumerate(types) if kind in _NUMBERS]
        texts = [place for place, kind in enumerate(types) if kind in _TEXTS]
        self._instants = [place for place, kind in enumerate(types) if kind == "timestamp"]
        self._number_count, self._text_count = len(numbers), len(texts)
        self._pick_numbers, self._pick_texts = _picker(numbers), _picker(texts)
        grouped = [*numbers, *texts, *self._instants]
        # A schema whose numbers stand before its texts, the usual case, needs no reordering.
        is_in_order = grouped == sorted(grouped) and not self._instants
        self._in_order = None if is_in_order else _picker([grouped.index(place) for place in range(len(types))])

    def columns(self, rows: Sequence[msgspec.Struct]) -> Columns:
        """One array per field for n settled rows; see `Columns` for the dtypes."""
        count = len(rows)
        # A single row, the usual case online, needs no transposing: its values are its columns.
        values: tuple[Any, ...] = astuple(rows[0]) if count == 1 else tuple(zip(*map(astuple, rows), strict=True))
        if not count:
            values = ((),) * len(self._names)
        numbers = np.array(self._pick_numbers(values), np.float64).reshape(self._number_count, count)
        texts = np.array(self._pick_texts(values), object).reshape(self._text_count, count)
        if self._in_order is None:
            # As many arrays as names, by construction: asking zip to see to it would cost an eighth of this function.
            return dict(zip(self._names, chain(numbers, texts)))  # noqa: B905
        instants = [_instants(values[place : place + 1] if count == 1 else values[place]) for place in self._instants]
        return dict(zip(self._names, self._in_order([*numbers, *texts, *instants]), strict=True))


def _picker(places: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A function that takes the values at `places`, in that order."""
    first = places[0] if places else 0
    if places == list(range(first, first + len(places))):
        return itemgetter(slice(first, first + len(places)))
    return itemgetter(*places)


def _instants(values: Sequence[datetime | None]) -> np.ndarray:
    ticks = [_NAT if value is None else nanoseconds_of(value) for value in values]
    return np.array(ticks, np.int64).view("datetime64[ns]")
