"""Tensors of the Open Inference Protocol V2 as rows of a schema: what its REST and gRPC forms share.

One tensor per field, `[n]` or `[n, 1]`, or one matrix `[n, k]` in the schema's order where all fields are numbers. The
values go as columns through the schema's own check, so that a wrong one is refused in the words of every protocol.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from penstock.errors import SchemaViolation, Unreadable, Violation
from penstock.schema import Check
from penstock.server.call import Asked
from penstock.server.protocols.reading import require_rows

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("u1"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""The datatypes of fixed size, as their bytes stand in binary tensors."""

BYTES: Final = "BYTES"
_PREFIX_BYTES: Final = 4
_MOST_DIMENSIONS: Final = 2

Values = np.ndarray | list[Any]
"""The values of one tensor, flat and in row-major order: an array of a number's dtype, or a list of plain values."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor that a caller sent, its `values` as many as its `shape` says."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Values


def require_fits(name: str, datatype: str, shape: Sequence[int]) -> int:
    """How many values a tensor has. Raises Unreadable for a datatype or a shape that no column has."""
    if datatype != BYTES and datatype not in DTYPES:
        known = ", ".join([*DTYPES, BYTES])
        raise Unreadable(f"Expected a datatype out of {known}, got {datatype[:20]!r} - at `$.inputs.{name[:64]}`")
    if not 0 < len(shape) <= _MOST_DIMENSIONS or min(shape) < 0:
        raise Unreadable(
            f"Expected a shape [n], [n,1] or [n,k] of whole numbers, got {list(shape)[:4]} - at `$.inputs.{name[:64]}`"
        )
    return math.prod(shape)


def require_count(name: str, shape: Sequence[int], count: int) -> None:
    """Raise Unreadable unless a tensor has as many values as its shape says."""
    if count != math.prod(shape):
        raise Unreadable(
            f"Expected {math.prod(shape)} values for the shape {list(shape)}, got {count} - at `$.inputs.{name[:64]}`"
        )


def tensor_of_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """A tensor out of its binary form (little-endian; texts each behind their length). Raises Unreadable."""
    count = require_fits(name, datatype, shape)
    if datatype == BYTES:
        texts = _texts(name, data)
        require_count(name, shape, len(texts))
        return Tensor(name, datatype, shape, texts)
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        raise Unreadable(
            f"Expected {count * dtype.itemsize} bytes for {count} values of {datatype}, got {len(data)} "
            f"- at `$.inputs.{name[:64]}`"
        )
    values = np.frombuffer(data, dtype)
    return Tensor(name, datatype, shape, values if datatype != "BOOL" else _truths(name, values))


def _truths(name: str, values: np.ndarray) -> list[bool]:
    if len(values) and values.max() > 1:
        raise Unreadable(f"Expected the bytes 0 and 1 in a tensor of BOOL, got {values.max()} - at `$.inputs.{name}`")
    truths: list[bool] = values.astype(bool).tolist()
    return truths


def _texts(name: str, data: bytes | memoryview) -> list[str]:
    """The texts of a BYTES tensor, each behind its length in four bytes."""
    whole, found, place = bytes(data), [], 0
    while place < len(whole):
        begin = place + _PREFIX_BYTES
        place = begin + int.from_bytes(whole[place:begin], "little")
        if begin > len(whole) or place > len(whole):
            raise Unreadable(f"Expected texts each behind its length, got one that is cut - at `$.inputs.{name[:64]}`")
        found.append(whole[begin:place])
    return decoded_texts(name, found)


def decoded_texts(name: str, texts: Sequence[bytes]) -> list[str]:
    """The elements of a BYTES tensor as texts. Raises Unreadable for what is not UTF-8."""
    try:
        return [text.decode() for text in texts]
    except UnicodeDecodeError:
        raise Unreadable(f"Expected texts in UTF-8, got other bytes - at `$.inputs.{name[:64]}`") from None


class Columnar:
    """Reads tensors as rows of one schema. Immutable after construction."""

    def __init__(self, check: Check, max_rows: int) -> None:
        self._check = check
        self._max_rows = max_rows
        self._fields = {field.name: field for field in check.schema.fields}
        self._nullable = {field.name for field in check.schema.fields if field.nullable and field.type == "float"}
        self._ints = {field.name for field in check.schema.fields if field.type == "int"}
        self._is_numeric = all(field.type in {"float", "int"} for field in check.schema.fields)

    def asked(self, tensors: Sequence[Tensor], wish: Any) -> Asked:
        """The checked rows of `tensors`. Raises Unreadable, TooLarge and SchemaViolation with all violations."""
        for tensor in tensors:
            if tensor.shape[0] > self._max_rows:
                require_rows(tensor.shape[0], self._max_rows, "$.inputs")
        columns = self._columns(tensors)
        check = self._check
        try:
            rows = check.rows_of_table(msgspec.convert(columns, check.table))
            require_rows(len(rows), self._max_rows, "$.inputs")
            if check.is_final:
                return Asked(rows, wish=wish)
            batch = check.settle(rows)
        except msgspec.ValidationError as error:
            findings = check.violations(columns, "$.inputs", "table")
            raise findings.error() if findings.total else Unreadable(str(error)) from None
        return Asked(batch.rows, raw=_sent(columns, len(batch.rows)) if batch.changed else None, wish=wish)

    def _columns(self, tensors: Sequence[Tensor]) -> dict[str, list[Any]]:
        if len(tensors) == 1 and self._is_matrix(tensors[0]):
            return self._of_matrix(tensors[0])
        columns: dict[str, list[Any]] = {}
        for tensor in tensors:
            if tensor.name in columns:
                raise Unreadable(f"Expected each tensor once, got `{tensor.name[:64]}` twice - at `$.inputs`")
            if len(tensor.shape) > 1 and tensor.shape[1] != 1 and tensor.name in self._fields:
                raise Unreadable(
                    f"Expected the shape [n] or [n,1] for one field, got {list(tensor.shape)} "
                    f"- at `$.inputs.{tensor.name}`"
                )
            columns[tensor.name] = self._plain(tensor.name, tensor.values)
        return columns

    def _is_matrix(self, tensor: Tensor) -> bool:
        """Whether a tensor that came alone is a whole table."""
        is_wide = len(tensor.shape) > 1 and tensor.shape[1] != 1
        return is_wide or (len(tensor.shape) > 1 and tensor.name not in self._fields and len(self._fields) == 1)

    def _of_matrix(self, tensor: Tensor) -> dict[str, list[Any]]:
        width = tensor.shape[1]
        if not self._is_numeric:
            raise Unreadable(
                f"Expected one tensor per field, as not all fields are numbers; got one of the shape "
                f"{list(tensor.shape)} - at `$.inputs.{tensor.name[:64]}`. Send each field as a tensor [n]."
            )
        if width != len(self._fields):
            expected = f"{len(self._fields)} values a row, one per field of the schema"
            raise SchemaViolation([Violation(f"$.inputs.{tensor.name[:64]}", expected, f"{width} values")])
        values = tensor.values
        columns = [values[place::width] for place in range(width)]
        named = dict(zip(self._fields, columns, strict=True))
        return {name: self._whole(name, self._plain(name, column)) for name, column in named.items()}

    def _plain(self, name: str, values: Values) -> list[Any]:
        """The values of one column as JSON would bring them; NaN is a missing value where the field may be null."""
        if not isinstance(values, np.ndarray):
            return values
        if values.dtype.kind != "f":
            plain: list[Any] = values.tolist()
            return plain
        wide: list[Any] = values.astype(np.float64).tolist()
        if name in self._nullable and np.isnan(values).any():
            return [None if value != value else value for value in wide]
        return wide

    def _whole(self, name: str, column: list[Any]) -> list[Any]:
        """A matrix has one datatype for all fields: in it, and only there, an int field takes floats that are whole."""
        if name not in self._ints:
            return column
        return [int(value) if isinstance(value, float) and value.is_integer() else value for value in column]


def _sent(columns: Mapping[str, list[Any]], rows: int) -> list[Any]:
    """The rows as they came, for the record."""
    return [{name: values[row] for name, values in columns.items() if row < len(values)} for row in range(rows)]
