"""The short names of the founding documents: `POST /predict` and `/batch_predict` with `{"features": …}`.

`features` is one row (an object, or a list of values in the schema's order) or a list of such rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from penstock.errors import CallFailure, Unreadable
from penstock.schema import Check
from penstock.schema.prediction import Prediction
from penstock.server.call import Asked, Call, Reader
from penstock.server.failures import error_body
from penstock.server.protocols.reading import Located, checked, generic, require_rows, unreadable

_SPACE = b" \t\r\n"


class ShortBody(msgspec.Struct, forbid_unknown_fields=True):
    """The envelope: the rows are read once the version, and so the schema, is known."""

    features: msgspec.Raw
    model_version: int | str | None = None
    key: str | None = None


class OneBody(msgspec.Struct, omit_defaults=True):
    """The answer for one row; `probabilities` is absent where the model has none."""

    prediction: Any
    model_version: int
    request_id: str
    latency_ms: float
    timestamp: datetime
    probabilities: dict[str, float] | None = None
    fallback: str | None = None
    cached: bool = False
    experiment: str | None = None
    arm: str | None = None


class ManyBody(msgspec.Struct, omit_defaults=True):
    """The answer for several rows."""

    predictions: list[Any]
    model_version: int
    request_id: str
    latency_ms: float
    timestamp: datetime
    fallback: str | None = None
    cached: bool = False
    experiment: str | None = None
    arm: str | None = None


_ENVELOPE = msgspec.json.Decoder(ShortBody)


class Short:
    """Bytes to `Asked`, reply or failure to bytes; `is_batch` answers with a list even for one row."""

    reads = writes = b"application/json"

    def __init__(self, *, is_batch: bool) -> None:
        self.name = "short-batch" if is_batch else "short"
        self._is_batch = is_batch

    def open(self, call: Call) -> bytes:
        """The bytes of `features`; the envelope's version and key are set in `call`. Raises Unreadable."""
        try:
            envelope = _ENVELOPE.decode(call.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise unreadable(error, call.body) from None
        call.version = _version(envelope.model_version)
        call.key = call.key or envelope.key
        return bytes(envelope.features)

    def reader(self, check: Check, max_rows: int) -> Reader:
        """A function that reads the bytes of `features` for the schema of `check`."""
        rows_of = {
            "{": _rows_reader(check, check.row, lambda row: [row]),
            "[": _rows_reader(check, check.positional, lambda row: check.rows_of_lists([row])),
            "[{": _rows_reader(check, list[check.row], list),  # type: ignore[name-defined]
            "[[": _rows_reader(check, list[check.positional], check.rows_of_lists),  # type: ignore[name-defined]
        }

        def read(features: bytes) -> Asked:
            rows = rows_of[_shape(features)](features)
            require_rows(len(rows), max_rows, "$.features")
            batch = check.settle(rows)
            return Asked(batch.rows, raw=_sent(features) if batch.changed else None)

        return checked(read, check=check, max_rows=max_rows, locate=_located, part="`$.features`")

    def answer(self, call: Call) -> bytes:
        """The body of an answer."""
        reply = call.reply
        version = reply.answerer.version
        if len(reply.predictions) == 1 and not self._is_batch:
            only = reply.predictions[0]
            body: OneBody | ManyBody = OneBody(
                _value(only), version, reply.request_id, reply.latency_ms, reply.at, only.probabilities
            )
        else:
            many = [_several(prediction) for prediction in reply.predictions]
            body = ManyBody(many, version, reply.request_id, reply.latency_ms, reply.at)
        body.fallback = None if reply.fallback is None else reply.fallback.kind
        body.cached = reply.is_cached
        if call.assigned is not None:
            body.experiment, body.arm = call.assigned.experiment, call.assigned.arm
        return msgspec.json.encode(body)

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """The body of a refusal or failure."""
        return error_body(failure, request_id)


def _version(asked: int | str | None) -> int | None:
    if asked is None or isinstance(asked, int):
        return asked
    try:
        return int(asked.removeprefix("v"))
    except ValueError:
        raise Unreadable(f"Expected a version number such as 3, got {asked[:40]!r} - at `$.model_version`") from None


def _rows_reader(check: Check, kind: Any, rows_of: Callable[[Any], list[Any]]) -> Callable[[bytes], list[Any]]:
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)
    return lambda features: rows_of(decoder.decode(features))


def _shape(features: bytes) -> str:
    """How the rows are written: one object, one list of values, or a list of either."""
    text = features.lstrip(_SPACE)
    if text[:1] != b"[":
        return "{"
    inner = text[1:].lstrip(_SPACE)[:1]
    return {b"{": "[{", b"[": "[["}.get(inner, "[")


def _located(features: Any) -> Located | None:
    if isinstance(features, dict):
        return features, "$.features", "row"
    if not isinstance(features, list):
        return None
    if features and isinstance(features[0], list):
        return features, "$.features", "lists"
    if features and isinstance(features[0], dict):
        return features, "$.features", "rows"
    return features, "$.features", "list"


def _sent(features: bytes) -> list[Any]:
    """The rows as they came, for the record."""
    rows = generic(features)
    return rows if isinstance(rows, list) and rows and isinstance(rows[0], list | dict) else [rows]


def _value(prediction: Prediction) -> Any:
    if prediction.label is not None:
        return prediction.label
    return prediction.values if prediction.value is None else prediction.value


def _several(prediction: Prediction) -> dict[str, Any]:
    body = {"prediction": _value(prediction)}
    return body if prediction.probabilities is None else {**body, "probabilities": prediction.probabilities}
