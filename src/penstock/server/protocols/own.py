"""Penstock's own API: `{"instances": [{…}]}` or `{"columns": {…}}`, and the answer with its version and request id."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET

from penstock.assignment import Assigned
from penstock.errors import CallFailure, Unreadable
from penstock.schema import Check
from penstock.server.call import Asked, Call, Reader, Reply
from penstock.server.failures import error_body
from penstock.server.protocols.reading import Located, checked, generic, require_rows

_ANSWER: Final = b'%b,"request_id":"%b","predictions":%b,"latency_ms":%.3f}'


class Own:
    """Bytes to `Asked`, reply or failure to bytes."""

    name = "penstock"
    reads = writes = b"application/json"

    def open(self, call: Call) -> bytes:
        """The whole body: model, version and alias are in the path."""
        return call.body

    def reader(self, check: Check, max_rows: int) -> Reader:
        """A function that reads a body for the schema of `check`."""
        body_type = msgspec.defstruct(
            "PredictBody",
            [
                ("instances", list[check.row] | msgspec.UnsetType, UNSET),  # type: ignore[name-defined]
                ("columns", check.table | msgspec.UnsetType, UNSET),
                ("key", str | None, None),
                ("params", dict[str, Any] | None, None),
            ],
            forbid_unknown_fields=True,
        )
        decode, is_final = msgspec.json.Decoder(body_type).decode, check.is_final

        def read(body: bytes) -> Asked:
            asked: Any = decode(body)
            if (asked.instances is UNSET) is (asked.columns is UNSET):
                raise Unreadable('send either "instances" (a list of rows) or "columns" (a list of values per field)')
            rows = asked.instances if asked.columns is UNSET else check.rows_of_table(asked.columns)
            if not 0 < len(rows) <= max_rows:
                require_rows(len(rows), max_rows, "$.instances")
            if is_final:
                return Asked(rows, asked.key)
            batch = check.settle(rows)
            return Asked(batch.rows, asked.key, _sent(body, len(rows)) if batch.changed else None)

        return checked(read, check=check, max_rows=max_rows, locate=_located)

    def answer(self, call: Call) -> bytes:
        """The body of an answer: `{"model", "version", "digest", "request_id", "predictions", "latency_ms"}`,
        where the model did not run for it `"fallback"` or `"cached"`, and of an experiment its name and the arm.
        """
        reply = call.reply
        model = reply.model or reply.answerer
        body = _ANSWER % (model.identity, reply.request_id.encode(), reply.encoded, reply.latency_ms)
        is_plain = reply.fallback is None and not reply.is_cached and call.assigned is None
        return body if is_plain else _marked(body, reply, call.assigned)

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """The body of a refusal or failure."""
        return error_body(failure, request_id)


def _marked(body: bytes, reply: Reply, assigned: Assigned | None) -> bytes:
    """The same answer, saying that the model did not run for it, and which arm of an experiment it is of."""
    marks: dict[str, object] = {} if reply.fallback is None else {"fallback": reply.fallback.kind}
    if reply.is_cached:
        marks["cached"] = True
    if assigned is not None:
        marks |= {"experiment": assigned.experiment} | ({} if assigned.arm is None else {"arm": assigned.arm})
    return body[:-1] + b"," + msgspec.json.encode(marks)[1:]


def _located(body: Any) -> Located | None:
    if isinstance(body, dict):
        if isinstance(body.get("instances"), list):
            return body["instances"], "$.instances", "rows"
        if isinstance(body.get("columns"), dict):
            return body["columns"], "$.columns", "table"
    return None


def _sent(body: bytes, rows: int) -> list[Any]:
    """The rows as they came, one by one, for the record."""
    found: Located = _located(generic(body)) or ([], "", "rows")
    sent, _, form = found
    if form == "rows":
        return list(sent)
    # Columns that the schema does not know, where it ignores them, may be of any shape.
    columns = {name: values for name, values in sent.items() if isinstance(values, list)}
    return [{name: values[row] for name, values in columns.items() if row < len(values)} for row in range(rows)]
