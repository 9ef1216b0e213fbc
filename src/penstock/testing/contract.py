"""What every protocol has to keep to: the same model and rows give the same numbers, refusals and records.

The measure is our own JSON, `{"instances": […]}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from penstock.audit import Record
from penstock.schema import Schema
from penstock.schema.prediction import Prediction
from penstock.testing.server import Running
from penstock.testing.tongues import TONGUES, Heard, Tongue

_OWN: Final = TONGUES[0]
_SAME: Final = (
    *("kind", "code", "model", "version", "digest", "input", "outputs", "decision", "rows", "principal", "client_id"),
)
"""What a record says of a call, whatever protocol it came by."""

_CLIENT_ID: Final = {"x-request-id": "contract"}


def check_protocol(
    tongue: Tongue, server: Running, model: str, rows: Sequence[Mapping[str, Any]], *, schema: Schema
) -> None:
    """Raise AssertionError where `tongue` keeps not to the contract; `rows` are right ones for `model`.

    It asks for all rows, then for the first one with each of its fields wrong in turn.
    """
    with server.client(headers=_CLIENT_ID) as http:
        expected, heard = _OWN.ask(http, model, rows), tongue.ask(http, model, rows)
        _require("the status of right rows", 200, heard.status, heard)
        told = [tongue.told(Prediction(**answer)) for answer in expected.answers]
        _require("the numbers", told, heard.answers, heard)
        _check_records(tongue, server, expected, heard)
        for what, wrong in wrong_rows(rows[0], schema):
            expected, heard = _OWN.ask(http, model, [wrong]), tongue.ask(http, model, [wrong])
            if not 400 <= heard.status < 500:
                raise AssertionError(f"{what}: expected a status of 4xx, got {heard.status} ({heard.said})")
            _check_refusals(what, server.record(expected.request_id), server.record(heard.request_id))


def wrong_rows(row: Mapping[str, Any], schema: Schema) -> list[tuple[str, dict[str, Any]]]:
    """The row with each thing wrong that every protocol can say, and what that is."""
    found: list[tuple[str, dict[str, Any]]] = []
    for field in schema.fields:
        if field.type in {"float", "int"}:
            found.append((f"a text for {field.name}", {**row, field.name: "many"}))
        if field.allowed is not None and field.on_unknown == "refuse":
            found.append((f"an unknown {field.name}", {**row, field.name: "none of them"}))
    return found


def _check_records(tongue: Tongue, server: Running, expected: Heard, heard: Heard) -> None:
    own, other = server.record(expected.request_id), server.record(heard.request_id)
    _require("the protocol in the record", tongue.protocol, other.protocol, heard)
    for member in _SAME:
        _require(f"the record's {member}", getattr(own, member), getattr(other, member), heard)


def _check_refusals(what: str, own: Record, other: Record) -> None:
    """The same code and the same words; only the way to the value differs with the form of the rows."""
    for member in ("kind", "code", "model", "version"):
        _equal(f"{what}: the record's {member}", getattr(own, member), getattr(other, member))
    words = [[(each.expected, each.got) for each in record.violations] for record in (own, other)]
    _equal(f"{what}: the violations", *words)


def _require(what: str, expected: object, actual: object, heard: Heard) -> None:
    _equal(what + (f" ({heard.said})" if heard.said else ""), expected, actual)


def _equal(what: str, expected: object, actual: object) -> None:
    if expected != actual:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")
