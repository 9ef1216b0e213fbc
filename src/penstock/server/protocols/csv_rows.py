"""Rows out of `text/csv`: a header that names the schema's fields in any order, then a line for each row.

Source: RFC 4180, and what pandas' `to_csv(index=False)` writes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import islice
from typing import Any

from msgspec import UNSET

from penstock.errors import TooLarge, Unreadable
from penstock.schema import Schema
from penstock.server.protocols.pandas_values import csv_value
from penstock.server.protocols.reading import unreadable

_SHOWN = 20


def csv_rows(body: bytes, schema: Schema, max_rows: int) -> list[dict[str, Any]]:
    """The rows as objects, their values by the types of `schema`; an empty cell is null, whether quoted or not.

    Raises Unreadable for what is no UTF-8 (with a byte order mark or without) or no CSV, for a header that does not
    name the fields, and for a line of another length; TooLarge for more than `max_rows`.
    """
    lines = _lines(body, max_rows)
    if not lines:
        raise Unreadable("Expected CSV with a header, got an empty body: send the names of the columns first")
    header, *rows = lines
    _require_header(header, schema)
    by_name = {field.name: field for field in schema.fields}
    fields = [by_name.get(name) for name in header]
    found: list[dict[str, Any]] = []
    for place, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise Unreadable(
                f"Expected {len(header)} values, as many as the header names, got {len(row)} - in row {place}: "
                f"quote a value that holds a comma or a line's end"
            )
        found.append({field.name: csv_value(field, text) for field, text in zip(fields, row, strict=True) if field})
    return found


def _lines(body: bytes, max_rows: int) -> list[list[str]]:
    """All lines but empty ones, which pandas does not count either; of too many only as many as it takes to know."""
    try:
        text = body.decode("utf-8-sig").rstrip("\r\n")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = list(islice(reader, max_rows + 2))
    except UnicodeDecodeError as error:
        raise unreadable(error, body) from None
    except csv.Error as error:
        raise Unreadable(f"Expected CSV as RFC 4180 has it, got a body in which {error}") from None
    if len(lines) > max_rows + 1:
        raise TooLarge(f"more than {max_rows} rows in one call, which is server.max_rows: send them in several calls")
    return [line for line in lines if line]


def _require_header(header: Sequence[str], schema: Schema) -> None:
    missing = [field.name for field in schema.fields if field.name not in header and field.default is UNSET]
    if missing:
        raise Unreadable(f"Expected a header with the fields of the schema, {_listed(missing)} are not in it: add them")
    extra = [] if schema.on_extra == "ignore" else [name for name in header if name not in schema.names]
    if extra:
        raise Unreadable(
            f"Expected a header with fields of the schema only, got {_listed(extra)} too: the fields are "
            f"{_listed(schema.names)}; pandas leaves its index out with to_csv(index=False)"
        )
    if len(set(header)) != len(header):
        raise Unreadable("Expected each column once in the header, got one of them twice: drop or rename it")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name[:80]}`" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, … ({len(names)} in all)"
