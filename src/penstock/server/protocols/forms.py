"""Rows in the forms of other protocols: objects, lists in schema order, bare scalars of an only field, columns.

What fits the schema is decoded straight into rows. Only what does not is looked at value by value, where a protocol may
mend what its clients are known to send (`Mend`), and the walk names everything that is wrong then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from penstock.errors import Unreadable
from penstock.schema import Check, Field, Form, Row
from penstock.server.call import Asked
from penstock.server.protocols.reading import generic, require_rows, unreadable

Mend: TypeAlias = Callable[[Field, Any], Any]
"""From a field and the value sent for it to the value that a client of the protocol means; most are given back."""

Envelope = TypeVar("Envelope")

ABSENT: Final = msgspec.Raw(b"")
"""A member of an envelope that is not there."""

MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SPACE: Final = b" \t\r\n"
# A text, closed or not, or a NaN that is in none. Nothing is tried twice, so that this is linear whatever is sent.
_TEXT_OR_NAN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|NaN', re.DOTALL)


class Sent(NamedTuple):
    """Rows in a generically decoded body: the rows, their JSON path, and their form, one of rows, lists and table."""

    objects: Any
    path: str
    form: Form


class Rows:
    """Reads rows of one schema out of JSON text. Immutable after construction, so thread-safe.

    `objects`, `rows`, `lists` and `columns` raise what the decoder raises; they are called within `asked`.
    """

    def __init__(self, check: Check, max_rows: int, mend: Mend) -> None:
        self._check = check
        self.names = check.schema.names
        self._fields = check.schema.fields
        self._by_name = {field.name: field for field in self._fields}
        self._max_rows = max_rows
        self._mend = mend
        self._is_final = check.is_final
        row_type, list_type = check.row, check.positional
        self.objects = msgspec.json.Decoder(list[row_type]).decode  # type: ignore[valid-type]
        self._lists = msgspec.json.Decoder(list[list_type]).decode  # type: ignore[valid-type]
        self._table = msgspec.json.Decoder(check.table).decode
        only = self._fields[0].name if len(self._fields) == 1 else None
        self._typed: dict[Form, Callable[[bytes], list[Row]]] = {
            "rows": self.objects,
            "lists": self.lists,
            "table": self.columns,
        }
        self._opening = None if only is None else b"{" + msgspec.json.encode(only) + b":"

    def rows(self, text: bytes | msgspec.Raw) -> list[Row]:
        """Rows of a list of objects or of lists; where there is one field, also of a list of its values."""
        start = bytes(text).lstrip(_SPACE)
        inner = start[1:].lstrip(_SPACE)[:1] if start[:1] == b"[" else b""
        if inner == b"[":
            return self.lists(text)
        if inner in (b"{", b"]") or self._opening is None:
            return self.objects(text)
        return self.columns(self._opening + bytes(text) + b"}")

    def lists(self, text: bytes | msgspec.Raw) -> list[Row]:
        """Rows of a list of lists in the schema's order."""
        return self._check.rows_of_lists(self._lists(text))

    def columns(self, text: bytes | msgspec.Raw) -> list[Row]:
        """Rows of an object of columns."""
        return self._check.rows_of_table(self._table(text))

    def asked(self, typed: Callable[[], list[Row]], sent: Callable[[], Sent], wish: object) -> Asked:
        """The rows that `typed` gives, settled; `sent` finds them as plain values: for the record, and where the types
        do not fit. Raises SchemaViolation with all violations, and TooLarge.
        """
        try:
            rows = typed()
            if not 0 < len(rows) <= self._max_rows:
                require_rows(len(rows), self._max_rows, sent().path)
            if self._is_final:
                return Asked(rows, wish=wish)
            batch = self._check.settle(rows)
        except msgspec.ValidationError:
            return self._slowly(sent(), wish)
        return Asked(batch.rows, raw=raw_rows(sent()) if batch.changed else None, wish=wish)

    def require_count(self, sent: Sent) -> None:
        """Raise SchemaViolation for no rows, and TooLarge for too many."""
        require_rows(_count(sent), self._max_rows, sent.path)

    def _slowly(self, sent: Sent, wish: object) -> Asked:
        self.require_count(sent)  # before a walk over more than anybody may send
        mended = self._mended(sent)
        try:
            batch = self._check.settle(self._typed[mended.form](msgspec.json.encode(mended.objects)))
        except msgspec.ValidationError:
            batch = self._check.second_pass(*mended)
        require_rows(len(batch.rows), self._max_rows, sent.path)
        return Asked(batch.rows, raw=raw_rows(sent), wish=wish)

    def _mended(self, sent: Sent) -> Sent:
        objects, path, form = sent
        if form == "table":
            if not isinstance(objects, dict):
                return sent
            columns = {name: self._mended_column(name, column) for name, column in objects.items()}
            return Sent(columns, path, form)
        if not isinstance(objects, list):
            return sent
        if len(self._fields) == 1:
            objects = [row if isinstance(row, list | dict) else [row] for row in objects]
            form = _form_of(objects)
        return Sent([self._mended_row(row) for row in objects], path, form)

    def _mended_column(self, name: str, column: Any) -> Any:
        field = self._by_name.get(name)
        return [self._mended_value(field, value) for value in column] if field and isinstance(column, list) else column

    def _mended_row(self, row: Any) -> Any:
        if isinstance(row, dict):
            return {name: self._mended_value(self._by_name.get(name), value) for name, value in row.items()}
        if isinstance(row, list) and len(row) == len(self._fields):
            return [self._mended_value(field, value) for field, value in zip(self._fields, row, strict=True)]
        return row

    def _mended_value(self, field: Field | None, value: Any) -> Any:
        if field is None:
            return value
        if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list):
            value = value[0]  # a tensor of one value, as clients send for an input of shape [n, 1]
        return self._mend(field, value)


def sent_rows(objects: Any, path: str) -> Sent:
    """Rows in a list, found at `path`."""
    return Sent(objects, path, _form_of(objects))


def sent_columns(objects: Any, path: str) -> Sent:
    """Columns in an object, or rows in a list, found at `path`."""
    return sent_rows(objects, path) if isinstance(objects, list) else Sent(objects, path, "table")


def raw_rows(sent: Sent) -> list[Any]:
    """The rows as they came, one by one, for the record."""
    if sent.form != "table":
        return [row if isinstance(row, list | dict) else [row] for row in sent.objects]
    # Columns that the schema does not know, where it ignores them, may be of any shape.
    columns = {name: values for name, values in sent.objects.items() if isinstance(values, list)}
    count = max(map(len, columns.values()), default=0)
    return [{name: values[row] for name, values in columns.items() if row < len(values)} for row in range(count)]


def read_json(body: bytes, decoder: msgspec.json.Decoder[Envelope], read: Callable[[Envelope], Asked]) -> Asked:
    """What `read` makes of the envelope in `body`. Raises Unreadable for no JSON, no UTF-8 or another envelope.

    NaN, which JSON has not and Python writes for a missing number, is read as null.
    """
    try:
        return read(_envelope(body, decoder))
    except MALFORMED as error:
        if b"NaN" in body and isinstance(error, msgspec.DecodeError):
            without = _TEXT_OR_NAN.sub(lambda found: b"null" if found[0] == b"NaN" else found[0], body)
            if without != body:
                return read_json(without, decoder, read)
        raise unreadable(error, body) from None


def _envelope(body: bytes, decoder: msgspec.json.Decoder[Envelope]) -> Envelope:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        objects = generic(body)  # where a key is repeated only its last value counts
    try:
        return decoder.decode(msgspec.json.encode(objects))
    except msgspec.ValidationError as error:
        raise Unreadable(str(error)) from None


def _count(sent: Sent) -> int:
    """How many rows there seem to be; 1 where the walk will tell that there is no list of them."""
    if sent.form != "table" or not isinstance(sent.objects, dict):
        return len(sent.objects) if isinstance(sent.objects, list) else 1
    lengths = [len(column) for column in sent.objects.values() if isinstance(column, list)]
    return max(lengths, default=1)


def _form_of(objects: Any) -> Form:
    """How the rows of a list are written: the first one tells."""
    is_lists = isinstance(objects, list) and bool(objects) and not isinstance(objects[0], dict)
    return "lists" if is_lists else "rows"
