"""Rows to columns: the hot path's arrays, built with one NumPy call per kind of value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import numpy as np
from msgspec.structs import astuple

from penstock.schema.columns import Columns
from penstock.schema.field import Schema
from penstock.schema.instant import nanoseconds_of

_NUMERIC = frozenset({"float", "int", "bool"})


class Layout:
    """Which places of a row are numbers, texts and instants, and how they become the schema's columns."""

    def __init__(self, schema: Schema) -> None:
        self._names = schema.names
        places = range(len(schema.fields))
        kinds = [_kind(field.type) for field in schema.fields]
        self._numbers = [place for place in places if kinds[place] == "number"]
        self._texts = [place for place in places if kinds[place] == "text"]
        self._instants = [place for place in places if kinds[place] == "instant"]
        grouped = [*self._numbers, *self._texts, *self._instants]
        # A schema of numbers alone, or with the numbers first, needs no reordering.
        self._order = None if grouped == list(places) else [grouped.index(place) for place in places]

    def columns(self, rows: Sequence[msgspec.Struct]) -> Columns:
        """One array per field for n settled rows; see `Columns` for the dtypes."""
        values = list(zip(*map(astuple, rows), strict=True)) or [()] * len(self._names)
        arrays: list[np.ndarray] = []
        if self._numbers:
            arrays += list(np.array([values[place] for place in self._numbers], dtype=np.float64))
        if self._texts:
            arrays += list(np.array([values[place] for place in self._texts], dtype=object))
        arrays += [_instants(values[place]) for place in self._instants]
        if self._order is not None:
            arrays = [arrays[place] for place in self._order]
        return dict(zip(self._names, arrays, strict=True))


def _kind(field_type: str) -> str:
    return "number" if field_type in _NUMERIC else "instant" if field_type == "timestamp" else "text"


def _instants(values: Sequence[datetime | None]) -> np.ndarray:
    ticks = [
        np.datetime64("NaT", "ns") if value is None else np.datetime64(nanoseconds_of(value), "ns") for value in values
    ]
    return np.array(ticks, dtype="datetime64[ns]")
