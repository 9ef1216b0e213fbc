"""MLflow's signature as a schema, and its input example as sample rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd

from penstock.errors import PackRefused
from penstock.schema import Field, Schema
from penstock.schema.field import FieldType
from penstock.schema.infer import infer

_TYPES: Final[dict[str, tuple[FieldType, str]]] = {
    "boolean": ("bool", "bool"),
    "datetime": ("timestamp", "datetime64[ns]"),
    "double": ("float", "float64"),
    "float": ("float", "float32"),
    "integer": ("int", "int32"),
    "long": ("int", "int64"),
    "string": ("string", "object"),
}
"""MLflow's column types as a field's type and the dtype of its column."""


class Column(msgspec.Struct, frozen=True):
    """One column of a signature."""

    name: str
    type: str
    required: bool = True


class Signature(msgspec.Struct, frozen=True):
    """The inputs of a model: named columns, or else one tensor's dtype."""

    columns: tuple[Column, ...] = ()
    dtype: str | None = None


class Example(msgspec.Struct, frozen=True):
    """Sample rows `[n, fields]`: a frame, or an array for a model that takes one."""

    rows: pd.DataFrame | np.ndarray

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.rows)


def signature_of(plain: dict[str, Any] | None) -> Signature | None:
    """The signature that MLmodel holds, or None. Raises PackRefused for inputs that are no flat row."""
    if not plain or not plain.get("inputs"):
        return None
    try:
        inputs = json.loads(str(plain["inputs"]))
        if inputs and inputs[0].get("type") == "tensor":
            return Signature(dtype=str(inputs[0]["tensor-spec"]["dtype"]))
        columns = tuple(msgspec.convert(column, Column) for column in inputs)
    except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
        raise PackRefused("MLmodel", f"its signature cannot be read: {error}", "Log the model again") from error
    strange = next((column for column in columns if column.type not in _TYPES), None)
    if strange is not None:
        raise PackRefused(
            "MLmodel", f"the input {strange.name!r} is a {strange.type}", f"A row holds {', '.join(sorted(_TYPES))}"
        )
    return Signature(columns=columns)


def example_of(root: Path, info: dict[str, Any], signature: Signature | None) -> Example:
    """The input example, with the dtypes of the signature. Raises PackRefused naming its file."""
    path = root / str(info.get("artifact_path", "input_example.json"))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if info.get("type") == "ndarray":
            values = np.asarray(content["inputs"] if isinstance(content, dict) else content)
            return Example(values.astype(signature.dtype) if signature is not None and signature.dtype else values)
        if info.get("pandas_orient") != "split":
            raise ValueError(f"it is a {info.get('type')}, and not rows and columns")
        frame = pd.DataFrame(content["data"], columns=content.get("columns"))
        return Example(_typed(frame, signature))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackRefused(
            path.name, f"the input example cannot be read: {error}", "Say --sample with training rows"
        ) from error


def schema_from(signature: Signature, example: Example) -> Schema | None:
    """A schema of the signature's columns: their names, types and whether they may be missing; None for a tensor.

    A text becomes a `string`: a few rows do not tell which categories there are.
    """
    if not signature.columns or not isinstance(example.rows, pd.DataFrame):
        return None
    frame = example.rows
    present = frame[[name for name in frame.columns if frame[name].notna().any()]]
    nulls = {field.name: field.null_as for field in infer(present).schema.fields if field.nullable}
    fields = []
    for column in signature.columns:
        kind, dtype = _TYPES[column.type]
        null: dict[str, Any] = {} if column.required else {"null_as": nulls.get(column.name, "nan")}
        held = str(frame[column.name].dtype) if column.name in frame else dtype
        fields.append(Field(name=column.name, type=kind, nullable=not column.required, dtype=held, **null))
    return Schema(fields=tuple(fields))


def _typed(frame: pd.DataFrame, signature: Signature | None) -> pd.DataFrame:
    if signature is None:
        return frame
    missing = [column.name for column in signature.columns if column.name not in frame]
    if missing:
        raise ValueError(f"it lacks the column {missing[0]!r} of the signature")
    for column in signature.columns:
        dtype: Any = _TYPES[column.type][1]
        series = frame[column.name]
        if series.isna().any() and dtype.startswith(("int", "bool")):
            dtype = "float64" if dtype.startswith("int") else "object"
        frame[column.name] = pd.to_datetime(series) if column.type == "datetime" else series.astype(dtype)
    return frame
