"""The training frame back from checked columns, and columns from a training frame.

The meeting point of the schema's arrays and what an estimator was fitted on; the home of pandas in `bundle/`. Used by
packing, the proof and the native flavour; a worker that serves compiled bundles never imports it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from penstock.errors import SchemaError
from penstock.schema import Columns, Field, Schema

_NUMBERS = ("float", "int", "bool")


def frame_of(columns: Columns, schema: Schema) -> pd.DataFrame:
    """The frame as it was at training: one column per field, in the schema's order.

    Dtypes are `Field.dtype` (an int or bool dtype becomes float64 or object where a value is missing, as pandas itself
    does), missing values are what `Field.null_as` says. Arrays are copied: the estimator may write into its frame.
    Thread-safe.
    """
    return pd.DataFrame({field.name: _series_of(columns[field.name], field) for field in schema.fields})


def columns_of(frame: pd.DataFrame, schema: Schema) -> Columns:
    """The schema's columns from a training frame; the reverse of `frame_of`.

    Numbers become float64 with NaN, texts objects with None, timestamps UTC nanoseconds with NaT. A numeric field with
    `null_as: value` gets NaN where the frame has `null_value`. Raises SchemaError when a column is missing or a value
    does not fit its field's type. Thread-safe.
    """
    missing = [name for name in schema.names if name not in frame.columns]
    if missing:
        raise SchemaError(f"Expected the columns of the schema in the frame, {missing} are missing: add them")
    return {field.name: _array_of(frame[field.name], field) for field in schema.fields}


def _series_of(values: np.ndarray, field: Field) -> pd.Series[Any]:
    if field.type == "timestamp":
        stamps = pd.Series(pd.DatetimeIndex(values.astype("datetime64[ns]")))
        return stamps.dt.tz_localize("UTC") if "UTC" in (field.dtype or "") else stamps
    if field.type in _NUMBERS:
        return _numbers(values.astype(np.float64), field)
    return _texts(values, field)


def _numbers(values: np.ndarray, field: Field) -> pd.Series[Any]:
    dtype = field.dtype or {"float": "float64", "int": "int64", "bool": "bool"}[field.type]
    gone = np.isnan(values)
    if field.null_as == "value" and field.null_value is not None:
        values = np.where(gone, float(field.null_value), values)
        gone = np.zeros_like(gone)
    if dtype in ("object", "category", "str", "string"):
        return _objects(values, gone, field, dtype)
    if dtype[:1].isupper():
        extension: Any = dtype
        return pd.Series(pd.array(values, dtype=extension))
    if gone.any() and not dtype.startswith("float"):
        return _objects(values, gone, field, "object") if dtype == "bool" else pd.Series(values)
    with np.errstate(over="ignore"):
        return pd.Series(values.astype(dtype))


def _objects(values: np.ndarray, gone: np.ndarray, field: Field, dtype: str) -> pd.Series[Any]:
    kind = {"float": float, "int": int, "bool": bool}[field.type]
    null = _null_of(field)
    cells = [null if void else kind(value) for value, void in zip(values, gone, strict=True)]
    if dtype == "category":
        return pd.Series(pd.Categorical(cells, categories=_categories(cells, gone, field)))
    return pd.Series(cells, dtype=object)


def _texts(values: np.ndarray, field: Field) -> pd.Series[Any]:
    gone = np.array([value is None for value in values], dtype=bool)
    cells = values.astype(object).copy()
    cells[gone] = _null_of(field)
    if field.dtype == "category":
        return pd.Series(pd.Categorical(cells, categories=_categories(list(cells), gone, field)))
    return pd.Series(cells, dtype=field.dtype if field.dtype in ("string", "str") else object)


def _categories(cells: list[Any], gone: np.ndarray, field: Field) -> list[Any]:
    known = list(field.allowed or ())
    unseen = sorted({cell for cell, void in zip(cells, gone, strict=True) if not void} - set(known))
    return known + unseen


def _null_of(field: Field) -> Any:
    return {"nan": np.nan, "none": None, "na": pd.NA, "value": field.null_value}[field.null_as]


def _array_of(series: pd.Series[Any], field: Field) -> np.ndarray:
    gone = series.isna().to_numpy()
    if field.null_as == "value" and field.nullable and field.null_value is not None:
        gone = gone | (series == field.null_value).fillna(False).to_numpy(dtype=bool)
    if field.type == "timestamp":
        return np.asarray(pd.to_datetime(series, utc=True).dt.tz_localize(None), dtype="datetime64[ns]")
    if field.type in _NUMBERS:
        return _floats(series, gone, field)
    cells = series.astype(object).to_numpy(copy=True)
    cells[gone] = None
    wrong = next((cell for cell in cells if cell is not None and not isinstance(cell, str)), None)
    if wrong is not None:
        raise SchemaError(f"Expected text in the column {field.name!r}, got {wrong!r}: make it a {field.type} of str")
    return cells


def _floats(series: pd.Series[Any], gone: np.ndarray, field: Field) -> np.ndarray:
    out = np.full(len(series), np.nan)
    try:
        out[~gone] = series[~gone].astype(object).to_numpy().astype(np.float64)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"Expected {field.type} in the column {field.name!r}: {error}") from error
    return out
