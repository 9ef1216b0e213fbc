"""A schema from a sample of training rows: cautious, to be edited; what is doubtful is pointed out, not guessed.

The only module of `schema/` that imports pandas; packing calls it, serving never does.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec
import numpy as np
import pandas as pd

from penstock.errors import SchemaError
from penstock.schema.field import Field, FieldType, Scalar, Schema
from penstock.schema.remarks import Note, are_addresses, remarks
from penstock.schema.soundness import LARGEST_INT

MOST_CATEGORIES: Final = 50
LEAST_REPEATS: Final = 2

NullAs: TypeAlias = Literal["nan", "none", "na"]


class Inferred(msgspec.Struct, frozen=True):
    """The schema that a sample suggests, and notes on what a person should look at."""

    schema: Schema
    notes: tuple[Note, ...]


def infer(frame: pd.DataFrame) -> Inferred:
    """The schema of the rows in `frame`, one field per column, in order.

    A column of texts is a category when it has at most 50 distinct values and each occurs twice on average, else a
    string; so are e-mail addresses, of which no schema should have a list. A field is nullable when the sample has
    missing values in it. No range is invented.

    Raises SchemaError for a column whose name is no text, that has no values, or whose values are of mixed or unknown
    types; the message names the column and the mend.
    """
    if not len(frame):
        raise SchemaError("expected rows to infer a schema from, got an empty frame: give the training rows")
    for name in frame.columns:
        if not isinstance(name, str):
            raise SchemaError(
                f"expected texts as column names, got {name!r} ({type(name).__name__}): rename the columns before "
                "fitting, such as `frame.columns = [f'x{i}' for i in range(frame.shape[1])]`"
            )
    if repeated := frame.columns[frame.columns.duplicated()].tolist():
        raise SchemaError(f"two columns are called `{repeated[0]}`: rename or drop one of them")
    columns = [_Column(name, frame[name]) for name in frame.columns]
    return Inferred(
        schema=Schema(fields=tuple(column.field for column in columns)),
        notes=tuple(note for column in columns for note in column.notes()),
    )


class _Column:
    """One column of the sample, its field, and what to point out."""

    def __init__(self, name: str, series: pd.Series[Any]) -> None:
        self._name = name
        self._series = series
        self._present = series[series.notna()]
        if not len(self._present):
            raise SchemaError(f"column `{name}` has only missing values: drop it, or give rows that have some")
        self._missing = _missing_kinds(series)
        kind, allowed = self._type()
        options: dict[str, Any] = {"nullable": True, "null_as": self._missing[0]} if self._missing else {}
        self.field = Field(name=name, type=kind, allowed=allowed, dtype=str(series.dtype), **options)

    def _type(self) -> tuple[FieldType, tuple[Scalar, ...] | None]:
        dtype = self._series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return self._type_of_categories(dtype)
        if isinstance(dtype, pd.DatetimeTZDtype) or dtype.kind == "M":
            return "timestamp", None
        if pd.api.types.is_bool_dtype(dtype):
            return "bool", None
        if pd.api.types.is_integer_dtype(dtype):
            return self._int(), None
        if pd.api.types.is_float_dtype(dtype):
            return "float", None
        if isinstance(dtype, pd.StringDtype) or pd.api.types.is_object_dtype(dtype):
            return self._type_of_objects()
        raise SchemaError(
            f"column `{self._name}` has dtype {dtype}, which no field type holds: make it numbers, texts or timestamps"
        )

    def _int(self) -> FieldType:
        # Python's integers: the magnitude of the smallest int64 has no int64.
        if max(abs(int(self._present.min())), abs(int(self._present.max()))) > LARGEST_INT:
            raise SchemaError(
                f"column `{self._name}` holds integers beyond 2**53, which no double carries exactly: drop it if it is "
                "an id, or make it text"
            )
        return "int"

    def _type_of_categories(self, dtype: pd.CategoricalDtype) -> tuple[FieldType, tuple[Scalar, ...] | None]:
        values = cast("list[Scalar]", dtype.categories.tolist())
        kinds = {type(value) for value in values}
        if kinds == {str}:
            return "category", tuple(values)
        if kinds == {bool}:
            return "bool", None
        if kinds == {int} or kinds == {float}:
            return ("int" if kinds == {int} else "float"), tuple(values)
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise SchemaError(f"column `{self._name}` has categories of {names}: make them all texts")

    def _type_of_objects(self) -> tuple[FieldType, tuple[Scalar, ...] | None]:
        kinds = Counter(_kind_of(value) for value in self._present)
        if len(kinds) > 1 and set(kinds) != {"int", "float"}:
            self._refuse_mixed(kinds)
        kind = max(kinds)
        if kind == "str":
            return self._type_of_texts()
        if set(kinds) == {"int", "float"} or kind == "float":
            return "float", None
        if kind == "int":
            return self._int(), None
        if kind in {"bool", "timestamp"}:
            return ("bool" if kind == "bool" else "timestamp"), None
        raise SchemaError(
            f"column `{self._name}` holds values of type {kind}, which no field type takes: make them numbers, texts "
            "or timestamps"
        )

    def _refuse_mixed(self, kinds: Counter[str]) -> None:
        rare = kinds.most_common()[-1][0]
        place, value = next((place, value) for place, value in self._present.items() if _kind_of(value) == rare)
        listed = ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common())
        raise SchemaError(
            f"column `{self._name}` mixes types: {listed}; row {place} holds {value!r:.60}: convert it to one type"
        )

    def _type_of_texts(self) -> tuple[FieldType, tuple[Scalar, ...] | None]:
        values = sorted(set(self._present.tolist()))
        is_short = len(values) <= MOST_CATEGORIES and LEAST_REPEATS * len(values) <= len(self._present)
        if is_short and not are_addresses(values):
            return "category", tuple(values)
        return "string", None

    def notes(self) -> Iterator[Note]:
        """What a person should look at."""
        if self.field.type == "timestamp":
            yield from self._notes_on_instants()
        else:
            is_text = self.field.type in {"string", "category"}
            yield from remarks(self.field, self._present.to_numpy(dtype=object if is_text else np.float64))
        dtype = self._series.dtype
        if isinstance(dtype, pd.CategoricalDtype) and dtype.ordered:
            yield Note(self._name, "ordered", "the order of its categories is kept in `allowed`, but nothing uses it")
        if len(self._missing) > 1:
            kinds = ", ".join(self._missing)
            yield Note(self._name, "missing", f"missing values of several kinds ({kinds}): native models get the first")

    def _notes_on_instants(self) -> Iterator[Note]:
        instants = pd.to_datetime(self._present, utc=True)
        if getattr(self._present.iloc[0], "tzinfo", None) is None:
            yield Note(self._name, "naive", "timestamps without a zone: taken as UTC; callers must send an offset")
        if bool((instants.dt.nanosecond != 0).any()):
            yield Note(self._name, "precision", "timestamps finer than a microsecond: JSON rows are rounded to one")
        if instants.nunique() == 1:
            yield Note(self._name, "constant", "one value in all rows: the model learns nothing from it")


def _kind_of(value: object) -> str:
    """The type of a value in an object column, NumPy's scalars counted as Python's."""
    if isinstance(value, bool | np.bool_):
        return "bool"
    if isinstance(value, int | np.integer):
        return "int"
    if isinstance(value, float | np.floating):
        return "float"
    if isinstance(value, str):
        return "str"
    return "timestamp" if isinstance(value, datetime.datetime | np.datetime64) else type(value).__name__


def _missing_kinds(series: pd.Series[Any]) -> list[NullAs]:
    """What `series` holds for missing values, the most frequent first; empty when it has none."""
    missing = series[series.isna()]
    if not pd.api.types.is_object_dtype(series.dtype):
        return [_null_as(missing.iloc[0])] if len(missing) else []
    return [kind for kind, _ in Counter(_null_as(value) for value in missing).most_common()]


def _null_as(value: object) -> NullAs:
    return "none" if value is None else "na" if value is pd.NA else "nan"
