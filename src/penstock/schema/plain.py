"""Values as Python callers hold them, to what JSON would have carried: NumPy scalars, NaN, NaT and NA, datetimes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np

from penstock.schema.soundness import is_text


def plain_row(row: object) -> object:
    """`row` with plain names and values; what is no mapping is given back for the check to refuse."""
    if not isinstance(row, Mapping):
        return row
    return {plain_value(name): plain_value(value) for name, value in row.items()}


def plain_value(value: object) -> object:
    """`value` as bool, int, float, str, datetime or None; anything else is given back for the check to refuse.

    NaN, NumPy's and pandas' NaT and pandas' NA mean missing. A numpy.datetime64 has no zone and is taken as UTC; a
    naive datetime is left for the check to refuse.
    """
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else value.astype("datetime64[us]").item().replace(tzinfo=UTC)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    # pandas is not imported here: its two missing values are known by the names of their types.
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if isinstance(value, datetime):
        return _plain_datetime(value)
    if isinstance(value, str):
        # A lone surrogate is no text: as bytes it is refused, as the same text in JSON would be.
        return str(value) if is_text(value) else value.encode("utf-8", "surrogatepass")
    return value


def _plain_datetime(value: datetime) -> datetime:
    """A datetime proper for one of a subclass, such as pandas' Timestamp, whose nanoseconds are rounded as in text."""
    if type(value) is datetime:
        return value
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    nanoseconds = int(getattr(value, "nanosecond", 0))
    plain = datetime(*parts, tzinfo=value.tzinfo, fold=value.fold)
    return plain + timedelta(microseconds=1) if nanoseconds >= 500 else plain
