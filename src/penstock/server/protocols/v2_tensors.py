"""Tensors of the Open Inference Protocol V2 as rows of a schema: what its REST and gRPC forms share.

One tensor per field, `[n]` or `[n, 1]`, or one matrix `[n, k]` in the schema's order where all fields are numbers. The
values go as columns through the schema's own check, so that a wrong one is refused in the words of every protocol.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from penstock.errors import SchemaViolation, Unreadable, Violation
from penstock.schema import Check
from penstock.schema.wording import UNDECLARED
from penstock.server.call import Asked
from penstock.server.protocols.reading import require_rows

_CODES: Final = {
    "BOOL": "B",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""The datatypes of fixed size, and the codes of the module struct for their little-endian bytes."""

BYTES: Final = "BYTES"
_PREFIX_BYTES: Final = 4
_MOST_DIMENSIONS: Final = 2

_SEPARATOR: Final = "\0\0\0"
_IS_LITTLE: Final = sys.byteorder == "little"


class Tensor(msgspec.Struct, frozen=True):
    """One tensor that a caller sent: its values flat, in row-major order and as JSON would bring them, as many as its
    `shape` says; only NaN and the infinities may stand among them besides.
    """

    name: str
    datatype: str
    shape: Sequence[int]
    values: list[Any]


def require_fits(name: str, datatype: str, shape: Sequence[int]) -> int:
    """How many values a tensor has. Raises Unreadable for a datatype or a shape that no column has."""
    if datatype not in _CODES and datatype != BYTES:
        known = ", ".join([*_CODES, BYTES])
        raise Unreadable(f"Expected a datatype out of {known}, got {datatype[:20]!r} - at `$.inputs.{name[:64]}`")
    dimensions = len(shape)
    if not 0 < dimensions <= _MOST_DIMENSIONS or min(shape) < 0:
        raise Unreadable(
            f"Expected a shape [n], [n,1] or [n,k] of whole numbers, got {list(shape)[:4]} - at `$.inputs.{name[:64]}`"
        )
    return shape[0] if dimensions == 1 else shape[0] * shape[1]


def miscounted(name: str, shape: Sequence[int], count: int) -> Unreadable:
    """The failure of a tensor that has not as many values as its shape says."""
    return Unreadable(
        f"Expected {math.prod(shape)} values for the shape {list(shape)}, got {count} - at `$.inputs.{name[:64]}`"
    )


def tensor_of_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """A tensor out of its binary form (little-endian; texts each behind their length). Raises Unreadable."""
    count = require_fits(name, datatype, shape)
    if datatype == BYTES:
        texts = _texts(name, data)
        if len(texts) != count:
            raise miscounted(name, shape, len(texts))
        return Tensor(name, datatype, shape, texts)
    code = _CODES[datatype]
    if len(data) != count * struct.calcsize(f"<{code}"):
        raise Unreadable(
            f"Expected {count * struct.calcsize(f'<{code}')} bytes for {count} values of {datatype}, got {len(data)} "
            f"- at `$.inputs.{name[:64]}`"
        )
    if _IS_LITTLE and code != "e":
        values: list[Any] = memoryview(data).cast(code).tolist()  # type: ignore[call-overload]
    else:
        values = list(struct.unpack(f"<{count}{code}", data))
    return Tensor(name, datatype, shape, values if datatype != "BOOL" else _truths(name, values))


def _truths(name: str, values: Sequence[int]) -> list[bool]:
    if values and max(values) > 1:
        raise Unreadable(f"Expected the bytes 0 and 1 in a tensor of BOOL, got {max(values)} - at `$.inputs.{name}`")
    return list(map(bool, values))


def _texts(name: str, data: bytes | memoryview) -> list[str]:
    """The texts of a BYTES tensor, each behind its length in four bytes. Raises Unreadable."""
    whole = bytes(data)
    if whole.isascii():
        found = _short_texts(whole.decode("ascii"))
        if found is not None:
            return found
    texts, place = [], 0
    while place < len(whole):
        begin = place + _PREFIX_BYTES
        place = begin + int.from_bytes(whole[place:begin], "little")
        if place > len(whole):
            raise Unreadable(f"Expected texts each behind its length, got one that is cut - at `$.inputs.{name[:64]}`")
        texts.append(whole[begin:place])
    return decoded_texts(name, texts)


def _short_texts(whole: str) -> list[str] | None:
    """The texts where each is short and plain, as categories are: three times as fast. None where that is not sure.

    Between two texts stand the low byte of a length and three zeros. What splits there into parts that are as long as
    the bytes before them say has no other reading.
    """
    parts = whole.split(_SEPARATOR)
    if len(parts[0]) != 1 or not all(parts):
        return None
    texts = [part[:-1] for part in parts[1:-1]]
    texts.append(parts[-1])
    lengths = "".join([part[-1] for part in parts[:-1]])
    return texts if lengths == "".join(map(chr, map(len, texts))) else None


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
        if tensors and tensors[0].shape[0] > self._max_rows:
            require_rows(tensors[0].shape[0], self._max_rows, "$.inputs")
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
            path = f"$.inputs.{tensor.name[:64]}"
            unnamed = {} if tensor.name in self._fields else {path: f"$.inputs.{UNDECLARED}"}
            raise SchemaViolation([Violation(path, expected, f"{width} values")], unnamed=unnamed)
        values = tensor.values
        columns = [values[place::width] for place in range(width)]
        named = dict(zip(self._fields, columns, strict=True))
        return {name: self._whole(name, self._plain(name, column)) for name, column in named.items()}

    def _plain(self, name: str, values: list[Any]) -> list[Any]:
        """The values of one column; NaN is a missing value where the field may be null."""
        return [None if value != value else value for value in values] if name in self._nullable else values

    def _whole(self, name: str, column: list[Any]) -> list[Any]:
        """A matrix has one datatype for all fields: in it, and only there, an int field takes floats that are whole."""
        if name not in self._ints:
            return column
        return [int(value) if isinstance(value, float) and value.is_integer() else value for value in column]


def _sent(columns: Mapping[str, list[Any]], rows: int) -> list[Any]:
    """The rows as they came, for the record."""
    return [{name: values[row] for name, values in columns.items() if row < len(values)} for row in range(rows)]
