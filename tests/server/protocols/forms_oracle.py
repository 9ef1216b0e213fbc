"""What other protocols' readers are held against: our own JSON for the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import msgspec
from hypothesis import strategies as st

from penstock.errors import CallFailure
from penstock.schema import Check, Field, Schema
from penstock.server.call import Asked
from penstock.server.protocols import Own

MAX_ROWS = 10


def outcome(read: Callable[[bytes], Asked], body: bytes) -> bytes | None:
    """The rows that `read` makes of `body`, as JSON in which 1 and 1.0 differ; None where it refuses it, as it may.

    Anything but rows or a CallFailure, which would be a 500, is raised.
    """
    try:
        return msgspec.json.encode(read(body).rows)
    except CallFailure as failure:
        assert str(failure)
        return None


def own_answers(client: httpx.Client, model: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What our own API on a server answers for the same rows."""
    answer = client.post(f"/v1/models/{model}/predict", json={"instances": list(rows)})
    assert (200, "") == (answer.status_code, answer.text if answer.is_error else "")
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def own_outcome(check: Check, rows: str, member: str = "instances") -> bytes | None:
    """What our own API makes of the JSON text `rows`."""
    return outcome(Own().reader(check, MAX_ROWS), f'{{"{member}": {rows}}}'.encode())


def own_lists_outcome(check: Check, lists: str) -> bytes | None:
    """What our own API makes of rows that `lists`, a JSON text, gives by place."""
    rows = json.loads(lists)
    if any(not isinstance(row, list) or len(row) != len(check.schema.fields) for row in rows):
        return None
    return own_outcome(check, json.dumps([dict(zip(check.schema.names, row, strict=True)) for row in rows]))


def meant(schema: Schema, text: str, mend: Callable[[Field, Any], Any]) -> str:
    """The JSON text of rows, as objects, with the values that a protocol's clients mean."""
    fields = {field.name: field for field in schema.fields}
    rows = json.loads(text, parse_constant=lambda name: None if name == "NaN" else float("inf"))
    found = []
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, list):
            row = dict(zip(fields, row, strict=True)) if len(row) == len(fields) else {}
        found.append({name: _meant(fields.get(name), value, mend) for name, value in row.items()})
    return json.dumps(found)


def _meant(field: Field | None, value: Any, mend: Callable[[Field, Any], Any]) -> Any:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if field is None else mend(field, value)


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` with a byte or a stretch changed, cut out or put in."""
    place = draw(st.integers(0, len(body)))
    length = draw(st.sampled_from([0, 0, 1, 1, 2, 8]))
    pieces = [b"", b"[", b"]", b"{", b'"', b",", b"NaN", b"null", b"1e999", b"\xff", b"\\", b"\x00", b"\n", b"[[", b"-"]
    new = draw(st.sampled_from(pieces) | st.binary(max_size=3))
    return body[:place] + new + body[place + length :]
