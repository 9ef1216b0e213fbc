"""Penstock's own API with Arrow's IPC stream for the rows, for the answer, or for both."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from penstock.errors import CallFailure, MissingExtra, Unreadable, UnsupportedMedia
from penstock.schema import Check
from penstock.server.call import Asked, Call, Reader
from penstock.server.protocols.arrow_stream import pyarrow, read_stream, write_stream
from penstock.server.protocols.own import Own
from penstock.server.protocols.reading import require_rows

STREAM: Final = b"application/vnd.apache.arrow.stream"


class Arrow:
    """Bytes to `Asked`, reply or failure to bytes; rows and answer are each JSON or Arrow. Refusals are JSON.

    A row that is sent as a column of Arrow is judged, and refused, as the same row in JSON `columns` is.
    """

    def __init__(self, own: Own, *, reads: bytes, writes: bytes, max_bytes: int) -> None:
        self.name = own.name if reads == own.reads else "penstock-arrow"
        self.reads = reads
        self.writes = writes
        self._own = own
        self._max_bytes = max_bytes

    def open(self, call: Call) -> bytes:
        """The whole body. Raises UnsupportedMedia where pyarrow is not installed."""
        try:
            pyarrow()
        except MissingExtra as missing:
            raise UnsupportedMedia(f"not on this server: {missing} there, or use application/json") from None
        return call.body

    def reader(self, check: Check, max_rows: int) -> Reader:
        """A function that reads a body for the schema of `check`."""
        if self.reads != STREAM:
            return self._own.reader(check, max_rows)
        max_bytes = self._max_bytes

        def read(body: bytes) -> Asked:
            stream = read_stream(body, check.schema, max_rows, max_bytes)
            columns = stream.columns
            try:
                rows = check.rows_of_table(msgspec.convert(columns, check.table))
                require_rows(len(rows), max_rows, "$.columns")
                batch = check.settle(rows)
            except msgspec.ValidationError as error:
                findings = check.violations(columns, "$.columns", "table")
                raise (findings.error() if findings.total else Unreadable(str(error))) from None
            return Asked(batch.rows, stream.key, _rows(columns, len(rows)) if batch.changed else None)

        return read

    def answer(self, call: Call) -> bytes:
        """The body of an answer."""
        return write_stream(call.reply) if self.writes == STREAM else self._own.answer(call)

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """The body of a refusal or failure, which is JSON."""
        return self._own.refusal(failure, request_id)


def arrow_faces(own: Own, max_bytes: int) -> tuple[Arrow, ...]:
    """The faces of a route of ours beside `own` itself, the preferred one for each type of request first."""
    ways = ((own.reads, STREAM), (STREAM, STREAM), (STREAM, own.writes))
    return tuple(Arrow(own, reads=reads, writes=writes, max_bytes=max_bytes) for reads, writes in ways)


def _rows(columns: dict[str, list[Any]], rows: int) -> list[Any]:
    """The rows as they came, one by one, for the record."""
    whole = {name: values for name, values in columns.items() if len(values) == rows}
    return [{name: values[row] for name, values in whole.items()} for row in range(rows)]
