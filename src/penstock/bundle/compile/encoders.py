"""One-hot and ordinal encoders: lookups whose tables are the fitted encoder's own answers to each of its categories.

Nothing here knows about `drop`, infrequent categories, unknown or missing values: the encoder is asked for each
category and for an unknown one, and what it answers is the table.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from penstock.bundle.compile.feature import Feature, Features
from penstock.bundle.compile.graph import ML, Graph
from penstock.bundle.compile.refusal import NotCompilable
from penstock.schema.columns import MISSING_TEXT

_UNKNOWN_TEXT = "\uffffunknown"


Rows: TypeAlias = list[list[int | None]]
"""For each feature the row of its table at each key; None where the table does not have the value."""

Write: TypeAlias = Callable[[Graph, str, list["Table"], Rows], Features]


class Table(msgspec.Struct, frozen=True):
    """What the encoder answers for one feature: `answers[i]` for `categories[i]`, `unknown` (None: it raises)."""

    categories: tuple[object, ...]
    answers: np.ndarray
    unknown: np.ndarray | None

    @property
    def width(self) -> int:
        """The number of columns that this feature becomes."""
        return int(self.answers.shape[1])


def one_hot_encoder(graph: Graph, encoder: Any, features: Features, step: str) -> Features:
    """One column of 0 or 1 per category that is kept."""
    tables = tables_of(encoder, list(encoder._n_features_outs), step)
    return _in_order(graph, features, tables, step=step, write=_indicators)


def ordinal_encoder(graph: Graph, encoder: Any, features: Features, step: str) -> Features:
    """The number of each category."""
    tables = tables_of(encoder, [1] * len(features), step)
    return _in_order(graph, features, tables, step=step, write=_codes)


def coded(graph: Graph, features: Features, categories: Sequence[tuple[object, ...]], step: str) -> Features:
    """The place of each value in its feature's categories; NaN where it is missing or not among them."""
    tables = [
        Table(kept, np.arange(len(kept), dtype=np.float64).reshape(-1, 1), np.array([np.nan])) for kept in categories
    ]
    return _in_order(graph, features, tables, step=step, write=_codes)


def target_encoder(graph: Graph, encoder: Any, features: Features, step: str) -> Features:
    """The encoding of each category: one column, or one for each class of the target."""
    each = len(encoder.encodings_) // len(features)
    tables = tables_of(encoder, [each] * len(features), step)
    return _in_order(graph, features, tables, step=step, write=_encodings)


def tables_of(encoder: Any, widths: Sequence[int], step: str) -> list[Table]:
    """The fitted encoder's answers, feature by feature; `widths` are their numbers of output columns."""
    encoder = copy.copy(encoder)
    encoder._sklearn_output_config = {"transform": "default"}
    categories = [np.asarray(kept) for kept in encoder.categories_]
    longest = max((len(kept) for kept in categories), default=0)
    if not longest:
        raise NotCompilable(step, "an encoder without categories")
    rows = [np.array([kept[min(row, len(kept) - 1)] for row in range(longest)], kept.dtype) for kept in categories]
    answers = _ask(encoder, rows)
    ends = np.cumsum(widths)
    tables = []
    for index, kept in enumerate(categories):
        part = slice(ends[index] - widths[index], ends[index])
        unknown = _ask_unknown(encoder, rows, index)
        tables.append(
            Table(tuple(kept.tolist()), answers[: len(kept), part], None if unknown is None else unknown[part])
        )
    return tables


def _ask(encoder: Any, columns: list[np.ndarray]) -> np.ndarray:
    names = getattr(encoder, "feature_names_in_", range(len(columns)))
    frame = pd.DataFrame({name: pd.Series(column) for name, column in zip(names, columns, strict=True)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = encoder.transform(frame if hasattr(encoder, "feature_names_in_") else _array_of(frame))
    return np.asarray(out.toarray() if hasattr(out, "toarray") else out, dtype=np.float64)


def _array_of(frame: pd.DataFrame) -> np.ndarray:
    mixed = any(dtype.kind == "O" for dtype in frame.dtypes)
    return np.asarray(frame.to_numpy(dtype=object if mixed else None))


def _ask_unknown(encoder: Any, rows: list[np.ndarray], index: int) -> np.ndarray | None:
    if getattr(encoder, "handle_unknown", None) == "error":
        return None
    kept = rows[index]
    unknown: Any = _UNKNOWN_TEXT
    if not _is_text(kept.tolist()):
        numbers = [number for number in kept.tolist() if not _is_null(number)]
        unknown = max(map(float, numbers), default=0.0) + 1.5
    columns = [column[:1] for column in rows]
    columns[index] = np.array([unknown], dtype=object if isinstance(unknown, str) else np.float64)
    return np.asarray(_ask(encoder, columns)[0])


def _is_null(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value))


def _is_text(values: Sequence[object]) -> bool:
    return any(isinstance(value, str) for value in values)


def _in_order(graph: Graph, features: Features, tables: list[Table], *, step: str, write: Write) -> Features:
    """Texts and numbers are looked up apart, and come back in the order of the features."""
    made: dict[int, list[Feature]] = {}
    for kind in ("text", "number"):
        chosen = [index for index, feature in enumerate(features) if feature.kind == kind]
        if not chosen:
            continue
        part, part_tables = tuple(features[i] for i in chosen), [tables[i] for i in chosen]
        keys, rows = _vocabulary(part, part_tables, step)
        looked_up = iter(write(graph, _ids(graph, part, keys), part_tables, rows))
        for index in chosen:
            made[index] = [next(looked_up) for _ in range(tables[index].width)]
    return tuple(feature for index in range(len(features)) for feature in made[index])


def _answer(table: Table, row: int | None) -> np.ndarray:
    if row is not None:
        return np.asarray(table.answers[row])
    return np.zeros(table.width) if table.unknown is None else table.unknown


def _vocabulary(features: Features, tables: list[Table], step: str) -> tuple[list[str] | list[float], Rows]:
    """The keys of all features together, and each feature's rows at these keys and, last, at an unknown one."""
    found: list[dict[Any, int]] = []
    for feature, table in zip(features, tables, strict=True):
        found.append(_rows_by_key(feature, table, step))
    keys = sorted({key for rows in found for key in rows if key == key})
    if any(key != key for rows in found for key in rows):
        keys.append(float("nan"))
    by_key = [{_hashable(key): row for key, row in rows.items()} for rows in found]
    return keys, [[rows.get(_hashable(key)) for key in keys] + [None] for rows in by_key]


def _hashable(key: Any) -> Any:
    return key if key == key else "nan"


def _rows_by_key(feature: Feature, table: Table, step: str) -> dict[Any, int]:
    rows: dict[Any, int] = {}
    for row, category in enumerate(table.categories):
        if feature.kind == "number":
            if isinstance(category, str):
                raise NotCompilable(step, "a text category for a column of numbers")
            key: Any = float("nan") if _is_null(category) else float(category)  # type: ignore[arg-type]
            rows[key] = row
        elif isinstance(category, str):
            rows[category] = row
        elif not _is_null(category):
            raise NotCompilable(step, f"a category of type {type(category).__name__} for a column of texts")
    if feature.kind == "text" and feature.nulls:
        null = feature.nulls[0]
        same = [row for row, category in enumerate(table.categories) if _same(category, null)]
        if same:
            rows[MISSING_TEXT] = same[0]
    return rows


def _same(category: object, null: object) -> bool:
    if isinstance(null, float) and isinstance(category, float):
        return bool(np.isnan(null) and np.isnan(category)) or null == category
    return category is null or (isinstance(category, str) and category == null)


def _ids(graph: Graph, features: Features, keys: list[str] | list[float]) -> str:
    """`[n, c]` int64: the number of each value among the keys, or `len(keys)`."""
    values = numpy_helper.from_array(np.arange(len(keys), dtype=np.int64), "v")
    default = numpy_helper.from_array(np.array([len(keys)], dtype=np.int64), "d")
    if features[0].kind == "text":
        encoded = [str(key).encode() for key in keys]
        sought = helper.make_tensor("k", TensorProto.STRING, [len(keys)], encoded)
    else:
        sought = numpy_helper.from_array(np.array(keys, dtype=np.float64), "k")
    attributes = {"keys_tensor": sought, "values_tensor": values, "default_tensor": default}
    return graph.add("LabelEncoder", [graph.matrix(features)], width=len(features), domain=ML, **attributes)


def _from_table(graph: Graph, ids: str, values: np.ndarray) -> str:
    """`values[column, id]`, by one lookup in the flattened table."""
    columns, keys = values.shape
    if columns > 1:
        offsets = np.arange(columns, dtype=np.int64).reshape(1, -1) * keys
        ids = graph.add("Add", [ids, graph.constant(offsets)], width=columns)
    return graph.add("Gather", [graph.constant(values.ravel()), ids], width=columns, axis=0)


def _codes(graph: Graph, ids: str, tables: list[Table], rows: Rows) -> Features:
    values = np.array([[_answer(table, row)[0] for row in of] for table, of in zip(tables, rows, strict=True)])
    out = _from_table(graph, ids, values)
    nulls = [(np.nan,) if np.isnan(column).any() else () for column in values]
    return tuple(Feature(tensor=out, index=index, kind="number", nulls=null) for index, null in enumerate(nulls))


def _encodings(graph: Graph, ids: str, tables: list[Table], rows: Rows) -> Features:
    columns = [(index, slot) for index, table in enumerate(tables) for slot in range(table.width)]
    values = np.array([[_answer(tables[index], row)[slot] for row in rows[index]] for index, slot in columns])
    out = _from_table(graph, graph.gather(ids, [index for index, _ in columns]), values)
    return tuple(Feature(tensor=out, index=index, kind="number") for index in range(len(columns)))


def _indicators(graph: Graph, ids: str, tables: list[Table], rows: Rows) -> Features:
    slots = np.array(
        [[_slot(_answer(table, row)) for row in of] for table, of in zip(tables, rows, strict=True)], dtype=np.int64
    )
    columns = [(index, slot) for index, table in enumerate(tables) for slot in range(table.width)]
    matches = [np.flatnonzero(slots[index] == slot) for index, slot in columns]
    if all(len(match) <= 1 for match in matches):
        wanted = [int(match[0]) if len(match) else -1 for match in matches]
    else:
        ids = _from_table(graph, ids, slots)
        wanted = [slot for _, slot in columns]
    spread = graph.gather(ids, [index for index, _ in columns])
    hit = graph.add("Equal", [spread, graph.constant(np.array([wanted], dtype=np.int64))], width=len(columns))
    out = graph.cast(hit, TensorProto.DOUBLE)
    return tuple(Feature(tensor=out, index=index, kind="number") for index in range(len(columns)))


def _slot(answer: np.ndarray) -> int:
    return int(np.argmax(answer)) if answer.any() else -1
