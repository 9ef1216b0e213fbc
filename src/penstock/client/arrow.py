"""Large frames as Arrow's IPC stream: columns go as they are, instead of each value as text. Home of pyarrow here."""

from __future__ import annotations

import importlib.util
from typing import Any, Final

from penstock.errors import ClientError, MissingExtra

STREAM: Final = "application/vnd.apache.arrow.stream"
FROM_ROWS: Final = 1000
"""Frames of so many rows go as Arrow unless the caller says otherwise."""


def is_worth_it(rows: object) -> bool:
    """Whether `rows` is a large frame, and pyarrow is there to write it."""
    is_frame = hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "iloc")
    if not is_frame or getattr(rows, "ndim", 2) != 2:
        return False
    return len(rows) >= FROM_ROWS and importlib.util.find_spec("pyarrow") is not None  # type: ignore[arg-type]


def arrow_stream(rows: Any, key: str | None = None) -> bytes:
    """`rows` as a stream: a frame (pandas, polars, Arrow), or a dict of columns. NaN of pandas is null.

    Raises MissingExtra, and ClientError for what Arrow has no columns for.
    """
    try:
        import pyarrow as pa
        import pyarrow.ipc
    except ImportError:
        raise MissingExtra("pyarrow", "arrow", 'format="arrow"') from None
    try:
        # Without its index, which is no field; through Arrow's own interface it would become one.
        table = pa.Table.from_pandas(rows, preserve_index=False) if hasattr(rows, "iloc") else pa.table(rows)
        table = _with_plain_texts(pa, table)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ClientError(
            f"Expected a frame, or a dict of columns, that Arrow can hold: {error} - at `rows`."
        ) from error
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(None if key is None else {"penstock.key": key})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _with_plain_texts(pa: Any, table: Any) -> Any:
    """The table with texts in the layouts that the server reads: polars keeps them as views."""
    for place, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string_view(kind):
            column = table.column(place).cast(pa.large_string())
            table = table.set_column(place, field.name, column)
    return table
