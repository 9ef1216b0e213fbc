"""What to ask: each method of the client as one immutable request. Pure; the faces send it."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from typing import Generic, Literal, TypedDict, TypeVar

import msgspec

from penstock.client.answers import Answer, Health, ModelList, ModelStatus, ServerInfo
from penstock.client.arrow import STREAM, arrow_stream, is_worth_it
from penstock.client.rows import json_rows
from penstock.errors import ClientError

Body = TypeVar("Body")

Format = Literal["json", "arrow"]
"""How rows are sent; answers come as JSON."""

_PACKED_BYTES = 1024
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REQUEST_ID = re.compile(r"[\x20-\x7e]{1,128}")


class Call(msgspec.Struct, Generic[Body], frozen=True, kw_only=True):
    """One request. A status among `answers` has a body of type `body_type`; every other is an error.

    `is_safe` says that the server does nothing but look, or nothing else when it is told twice (`may_repeat`): such a
    call may be sent again after any failure.
    """

    method: Literal["GET", "POST"]
    path: str
    body_type: type[Body]
    content: bytes | None = None
    headers: dict[str, str] = {}
    answers: tuple[int, ...] = (200,)
    may_repeat: bool = False

    @property
    def is_safe(self) -> bool:
        return self.method == "GET" or self.may_repeat


class PredictOptions(TypedDict, total=False):
    """What `predict` takes besides model and rows; `Client.predict` says what each means."""

    key: str | None
    version: int | None
    alias: str | None
    params: Mapping[str, object] | None
    request_id: str | None
    deadline_ms: int | None
    format: Format | None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The same as a value, with how the client sends."""

    key: str | None = None
    version: int | None = None
    alias: str | None = None
    params: Mapping[str, object] | None = None
    request_id: str | None = None
    deadline_ms: int | None = None
    format: Format | None = None
    gzip: bool = False


class _PredictBody(msgspec.Struct, frozen=True, omit_defaults=True):
    instances: list[dict[str, bool | int | float | str | None]]
    key: str | None = None
    params: Mapping[str, object] | None = None


def predict_call(model: str, rows: object, options: Options) -> Call[Answer]:
    """The request that asks `model` for predictions of `rows`. Raises `ClientError` for what cannot be sent."""
    headers: dict[str, str] = {}
    if options.request_id is not None:
        if not _REQUEST_ID.fullmatch(options.request_id):
            raise ClientError("Expected 1 to 128 printable ASCII characters - at `request_id`.")
        headers["x-request-id"] = options.request_id
    if options.deadline_ms is not None:
        if options.deadline_ms < 1:
            raise ClientError(f"Expected at least 1 ms, got {options.deadline_ms} - at `deadline_ms`.")
        headers["x-deadline-ms"] = str(options.deadline_ms)
    path = _model_path(model, options.version, options.alias) + "/predict"
    content, kind = _content(rows, options)
    headers |= {"content-type": kind, "accept": "application/json"}
    if options.gzip and len(content) > _PACKED_BYTES:
        content, headers["content-encoding"] = gzip.compress(content, 1), "gzip"
    return Call(method="POST", path=path, body_type=Answer, content=content, headers=headers)


def _content(rows: object, options: Options) -> tuple[bytes, str]:
    """The body and its type: Arrow where it is asked for, or where a large frame comes without params."""
    if options.format == "arrow" and options.params is not None:
        raise ClientError('Expected no `params`, which Arrow does not carry. Leave them out, or say format="json".')
    if options.format == "arrow" or (options.format is None and options.params is None and is_worth_it(rows)):
        return arrow_stream(rows, options.key), STREAM
    body = _PredictBody(instances=json_rows(rows), key=options.key, params=options.params)
    return _encoded(body), "application/json"


def model_call(name: str) -> Call[ModelStatus]:
    """The request for what the server knows of one model."""
    return Call(method="GET", path=_model_path(name), body_type=ModelStatus)


def models_call() -> Call[ModelList]:
    """The request for all models."""
    return Call(method="GET", path="/v1/models", body_type=ModelList)


def health_call() -> Call[Health]:
    """The request for the server's health, which answers with a body also when it is not well."""
    return Call(method="GET", path="/health", body_type=Health, answers=(200, 503))


def info_call() -> Call[ServerInfo]:
    """The request for what runs on the server."""
    return Call(method="GET", path="/v1/info", body_type=ServerInfo)


def _model_path(model: str, version: int | None = None, alias: str | None = None) -> str:
    if version is not None and alias is not None:
        raise ClientError(f"Expected a version or an alias, got both ({version}, `{alias}`). Leave one of them out.")
    for argument, name in (("model", model), ("alias", alias)):
        if name is not None and not _NAME.fullmatch(name):
            raise ClientError(
                f"Expected a name of a-z, 0-9, '.', '_' and '-', at most 64, beginning with a letter or digit, "
                f"got `{name}` - at `{argument}`."
            )
    if version is not None:
        return f"/v1/models/{model}/versions/{int(version)}"
    return f"/v1/models/{model}/aliases/{alias}" if alias is not None else f"/v1/models/{model}"


def _encoded(body: _PredictBody) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError) as error:
        raise ClientError(f"Expected values that JSON can carry: {error} - at `rows` or `params`.") from error
