"""Rows as a caller has them (dicts, a frame) become the JSON values that the wire takes; the client's first step.

No frame library is imported: a frame is asked for its rows by the method that its kind has.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from penstock.errors import ClientError

JsonValue: TypeAlias = bool | int | float | str | None

# How frames give their rows as dicts: polars, Arrow tables and batches, pandas.
_ROW_METHODS: tuple[tuple[str, tuple[str, ...]], ...] = (("to_dicts", ()), ("to_pylist", ()), ("to_dict", ("records",)))


def json_rows(rows: object) -> list[dict[str, JsonValue]]:
    """One dict of JSON values per row of `rows`: a mapping, an iterable of mappings, or a frame.

    NaN, NaT and pandas' NA become null, numpy scalars the number or text that they are, dates and times RFC 3339 (a
    time without offset stays without, and the server refuses it). Raises `ClientError` naming the place for what has
    no JSON form: an infinity, a nested value, a column whose name is no text.
    """
    return [
        {_name(name, index): _value(value, index, name) for name, value in row.items()}
        for index, row in enumerate(_mappings(rows))
    ]


def _mappings(rows: Any) -> list[Mapping[object, object]]:
    if hasattr(rows, "to_dict") and getattr(rows, "ndim", None) == 1:
        rows = rows.to_dict()  # a pandas Series: one row
    if isinstance(rows, Mapping):
        return [rows]
    for method, arguments in _ROW_METHODS:
        if hasattr(rows, method):
            rows = getattr(rows, method)(*arguments)
            break
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes):
        raise ClientError(f"Expected a dict, a list of dicts or a frame, got `{type(rows).__name__}` - at `rows`.")
    found = list(rows)
    for index, row in enumerate(found):
        if not isinstance(row, Mapping):
            raise ClientError(
                f"Expected a dict of field names and values, got `{type(row).__name__}` - at `rows[{index}]`. "
                "Rows without names are not sent: their order could be wrong and nobody would see it."
            )
    return found


def _name(name: object, index: int) -> str:
    if not isinstance(name, str):
        raise ClientError(
            f"Expected a text as the field's name, got `{name!r}` - at `rows[{index}]`. "
            "Name the columns as in training."
        )
    return name


def _value(value: object, index: int, name: object) -> JsonValue:
    try:
        return _json_value(value)
    except ValueError as error:
        raise ClientError(f"Expected {error} - at `rows[{index}][{name!r}]`.") from None


def _json_value(value: object) -> JsonValue:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)  # numpy's text and text enumerations are subclasses
    if isinstance(value, float | Decimal):
        return _finite(float(value))
    if isinstance(value, datetime.datetime | datetime.date):
        # NaT is a datetime that is not equal to itself. isoformat keeps the nanoseconds of a pandas Timestamp.
        return value.isoformat() if value == value else None
    if type(value).__name__ == "NAType":
        return None
    if hasattr(value, "dtype") and getattr(value, "ndim", 0) == 0:
        return _numpy_scalar(value)
    raise ValueError(f"a number, text, truth value, date, time or None, got `{type(value).__name__}`")


def _finite(value: float) -> float | None:
    if math.isinf(value):
        raise ValueError("a finite number (JSON has no infinity), got an infinity")
    return None if math.isnan(value) else value


def _numpy_scalar(value: Any) -> JsonValue:
    match value.dtype.kind:
        case "b":
            return bool(value)
        case "i" | "u":
            return int(value)
        case "f":
            return _finite(float(value))
        case "M":
            # Not `item()`: nanoseconds would come out as an integer.
            return None if value != value else str(value)
    raise ValueError(f"a number, text, truth value, date, time or None, got numpy `{value.dtype}`")
