"""The routes of the control API, each with the permission that it asks for once there are keys, and its document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from penstock.control.answers import (
    ApplyAnswer,
    EraseAnswer,
    ExperimentAnswer,
    GarbageAnswer,
    HistoryAnswer,
    ModelAnswer,
    MoveAnswer,
    PublishAnswer,
    RolloutAnswer,
    SealAnswer,
    WeighAnswer,
)
from penstock.controller.api.endpoints import Endpoints
from penstock.controller.api.records import RecordEndpoints, RecordsAnswer, RowsAnswer
from penstock.controller.messages import (
    BUNDLE_MEDIA,
    JSON_MEDIA,
    TAR_MEDIA,
    WHO_HEADER,
    ApplyBody,
    ControlErrorBody,
    EraseBody,
    GarbageBody,
    HealthAnswer,
    ModelsAnswer,
    MoveBody,
    Removal,
    RolloutBody,
    WeighBody,
    Why,
)

Json = dict[str, Any]
Scope = Literal["public", "read", "deploy", "admin"]

SCOPE_KEY: Final = "x-penstock-scope"

_REF: Final = "#/components/schemas/{name}"
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_DECLARED: Final = {"declared": "models:\n  churn:\n    aliases: {champion: 3}\n", "dry_run": True}
_WEIGHED: Final = {"experiment": {"id": "new-region", "arms": [{"name": "candidate", "version": 3, "weight": 500}]}}
_ERRORS: Final[dict[int | str, str]] = {
    400: "What was sent cannot be read, or a declared state that does not fit.",
    403: "Asked by a host name that is not known here, or by a web page of another origin.",
    404: "No such model, version or alias; the message names what there is.",
    405: "The path is there, and is asked in another way.",
    409: "Somebody else was faster, or what is to go is in use.",
    413: "The body is too large.",
    415: "Another content type than this route reads.",
    422: "A bundle that is not what it says, or a move that rules, schema or the load here speak against.",
    503: "The state or the repository cannot be reached, or too much is under way. What is served goes on.",
}
_OF_CHANGES: Final = (409, 413, 415, 422)
_HEADERS: Final = [
    {
        "name": WHO_HEADER,
        "in": "header",
        "description": "Who asks, as percent-encoded UTF-8; nobody verifies it.",
        "schema": {"type": "string"},
    },
    {
        "name": "If-Match",
        "in": "header",
        "description": 'The model\'s revision that was read before, as in "17": 409 if it has changed since.',
        "schema": {"type": "string"},
    },
]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path. `answer` and `body` are values of ours, or a media type."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    endpoint: Callable[..., Any]
    scope: Scope
    summary: str
    answer: type | str
    body: type | str | None = None
    example: Json | None = None

    @property
    def arguments(self) -> Json:
        """What FastAPI's `add_api_route` takes."""
        return {
            "path": self.path,
            "endpoint": self.endpoint,
            "methods": [self.method],
            "summary": self.summary,
            "tags": ["Models" if self.path.startswith("/v1/models") else "Controller"],
            "operation_id": self.endpoint.__name__,
            "response_model": None,
            "responses": self._responses(),
            "openapi_extra": self._extra(),
        }

    def _responses(self) -> dict[int | str, Json]:
        content = {self.answer: _BINARY} if isinstance(self.answer, str) else _json(self.answer)
        told = _ERRORS if self.method != "GET" else {code: _ERRORS[code] for code in _ERRORS if code not in _OF_CHANGES}
        errors = {code: {"description": text, "content": _json(ControlErrorBody)} for code, text in told.items()}
        errors["default"] = {"description": "Any other failure.", "content": _json(ControlErrorBody)}
        return {200: {"description": f"{self.summary}.", "content": content}, **errors}

    def _extra(self) -> Json:
        extra: Json = {SCOPE_KEY: self.scope}
        if self.method != "GET":
            extra["parameters"] = _HEADERS
        if isinstance(self.body, str):
            extra["requestBody"] = {"required": True, "content": {self.body: _BINARY}}
        elif self.body is not None:
            content = _json(self.body)
            content[JSON_MEDIA]["example"] = self.example or {}
            extra["requestBody"] = {"required": self.body is not Why, "content": content}
        return extra


def routes_of(endpoints: Endpoints, records: RecordEndpoints) -> tuple[Route, ...]:
    """All routes but those of the document itself."""
    models, model = "/v1/models", "/v1/models/{name}"
    reason = {"reason": "the old one was better"}
    return (
        Route(method="GET", path=models, endpoint=endpoints.models, scope="read", summary="All models",
              answer=ModelsAnswer),
        Route(method="GET", path=model, endpoint=endpoints.model, scope="read", summary="One model",
              answer=ModelAnswer),
        Route(method="GET", path=f"{model}/history", endpoint=endpoints.history, scope="read",
              summary="What happened to a model, and what was when", answer=HistoryAnswer),
        Route(method="POST", path=f"{model}/versions", endpoint=endpoints.publish, scope="deploy",
              summary="Publish a bundle", answer=PublishAnswer, body=BUNDLE_MEDIA),
        Route(method="DELETE", path=f"{model}/versions/{{version}}", endpoint=endpoints.remove, scope="admin",
              summary="Remove a version", answer=Removal),
        Route(method="PUT", path=f"{model}/aliases/{{alias}}", endpoint=endpoints.move, scope="deploy",
              summary="Give an alias to a version", answer=MoveAnswer, body=MoveBody,
              example={"version": 3, "reason": "better on the new region"}),
        Route(method="DELETE", path=f"{model}/aliases/{{alias}}", endpoint=endpoints.take_away, scope="deploy",
              summary="Take an alias away", answer=MoveAnswer),
        Route(method="PUT", path=f"{model}/experiment", endpoint=endpoints.weigh, scope="deploy",
              summary="Split calls between versions", answer=WeighAnswer, body=WeighBody, example=_WEIGHED),
        Route(method="GET", path=f"{model}/experiment", endpoint=endpoints.experiment, scope="read",
              summary="How an experiment stands", answer=ExperimentAnswer),
        Route(method="POST", path=f"{model}/rollback", endpoint=endpoints.rollback, scope="deploy",
              summary="Roll back", answer=MoveAnswer, body=Why, example=reason),
        Route(method="POST", path=f"{model}/rollout", endpoint=endpoints.start_rollout, scope="deploy",
              summary="Begin a rollout", answer=RolloutAnswer, body=RolloutBody,
              example={"version": 4, "plan": {"steps": [5, 25, 50, 100], "step_s": 600}}),
        Route(method="GET", path=f"{model}/rollout", endpoint=endpoints.rollout, scope="read",
              summary="How a rollout stands", answer=RolloutAnswer),
        Route(method="POST", path=f"{model}/rollout/{{verb}}", endpoint=endpoints.tell_rollout, scope="deploy",
              summary="Hold, resume, approve, abort or promote a rollout", answer=RolloutAnswer, body=Why,
              example=reason),
        Route(method="POST", path="/v1/apply", endpoint=endpoints.apply, scope="deploy",
              summary="Apply a declared state", answer=ApplyAnswer, body=ApplyBody, example=_DECLARED),
        Route(method="POST", path="/v1/gc", endpoint=endpoints.collect_garbage, scope="admin",
              summary="Collect garbage", answer=GarbageAnswer, body=GarbageBody, example={"dry_run": True}),
        Route(method="GET", path="/v1/audit/records", endpoint=records.records, scope="read",
              summary="Records of the audit log", answer=RecordsAnswer),
        Route(method="GET", path="/v1/audit/query", endpoint=records.query, scope="read",
              summary="A SELECT over the audit log", answer=RowsAnswer),
        Route(method="POST", path="/v1/audit/seal", endpoint=endpoints.seal, scope="admin",
              summary="Seal the log", answer=SealAnswer, body=Why),
        Route(method="POST", path="/v1/audit/erase", endpoint=endpoints.erase, scope="admin",
              summary="Erase payloads from the log", answer=EraseAnswer, body=EraseBody,
              example={"keys": ["customer-17"], "reason": "asked by the customer"}),
        Route(method="POST", path="/v1/backup", endpoint=endpoints.back_up, scope="admin",
              summary="Download a backup", answer=TAR_MEDIA, body=Why),
        Route(method="GET", path="/health", endpoint=endpoints.health, scope="public",
              summary="Whether the controller answers", answer=HealthAnswer),
    )  # fmt: skip


def components_of(routes: tuple[Route, ...]) -> Json:
    """The JSON Schemas of all answers and bodies, by name."""
    used = {kind for route in routes for kind in (route.answer, route.body) if isinstance(kind, type)}
    kinds = sorted({*used, ControlErrorBody}, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    return components


def _json(kind: type) -> Json:
    return {JSON_MEDIA: {"schema": {"$ref": _REF.format(name=kind.__name__)}}}
