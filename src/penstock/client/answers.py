"""What the server's bodies say, as values: the typed results of the client's methods. Unknown members are ignored."""

from __future__ import annotations

import msgspec

from penstock.errors import Violation
from penstock.schema.prediction import Prediction


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Predictions, one per row in the order of the rows, and what made them.

    `request_id` is the server's own; it finds the record of this answer. `digest` names the content of the bundle.
    `experiment` and `arm` are there where the model has an experiment.
    """

    model: str
    version: int
    digest: str
    request_id: str
    predictions: tuple[Prediction, ...]
    latency_ms: float
    experiment: str | None = None
    arm: str | None = None


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that the server serves. `cost_us` is the time of one row, as the server measured it at loading."""

    version: int
    digest: str
    flavour: str | None = None
    cost_us: float | None = None


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model that the server knows. `schema` is the JSON Schema of a row, where one model was asked for."""

    name: str
    ready: bool
    versions: tuple[ModelVersion, ...] = ()
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


class FeedbackTaken(msgspec.Struct, frozen=True, kw_only=True):
    """How many statements of feedback the server has taken, and of how many it does not know the label and kept only
    that they came.
    """

    taken: int
    unlisted: int = 0


class AuditInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How durable the server's records are: the class, and in words what a crash may take of them."""

    durability: str
    bound: str


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What runs there: versions of Penstock and Python, its records, and whether it is open without authentication."""

    penstock: str
    python: str | None = None
    audit: AuditInfo | None = None
    insecure: bool = False


class ErrorDetail(msgspec.Struct, frozen=True):
    """The member `error` of an error body."""

    code: str
    message: str
    request_id: str | None = None
    violations: list[Violation] = []


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: ErrorDetail
