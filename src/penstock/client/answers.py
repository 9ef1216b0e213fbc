"""What the server's bodies say, as values: the typed results of the client's methods. Unknown members are ignored."""

from __future__ import annotations

import msgspec

from penstock.errors import Violation
from penstock.schema.prediction import Prediction


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions, one per row in the order of the rows, and what made them.

    `request_id` is the server's own; it finds the record of this answer. `digest` names the content of the bundle.
    """

    model: str
    version: int
    digest: str
    request_id: str
    predictions: tuple[Prediction, ...]
    latency_ms: float


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model that the server knows. `schema` is the JSON Schema of a row, where the server sends it."""

    name: str
    ready: bool
    versions: tuple[int, ...] = ()
    aliases: dict[str, int] = {}
    schema: dict[str, object] = {}


class ModelList(msgspec.Struct, frozen=True):
    """The body of `GET /v1/models`."""

    models: tuple[ModelStatus, ...]


class Health(msgspec.Struct, frozen=True):
    """Whether the server answers predictions. `timestamp` is RFC 3339 in UTC, the server's clock."""

    status: str
    model_loaded: bool
    timestamp: str | None = None


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What runs there: the version of Penstock, how durable its records are, settings that lower its safety."""

    version: str
    durability: str | None = None
    unsafe_settings: tuple[str, ...] = ()


class ErrorDetail(msgspec.Struct, frozen=True):
    """The member `error` of an error body."""

    code: str
    message: str
    request_id: str | None = None
    violations: list[Violation] = []


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: ErrorDetail
