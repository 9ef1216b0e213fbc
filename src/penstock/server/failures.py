"""The only table from failures to what a protocol calls them; a test walks the subclasses of `CallFailure`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

import penstock.errors as errors
from penstock.errors import CallFailure, SchemaViolation, Violation

HTTP_STATUS: Final[dict[type[CallFailure], int]] = {
    errors.Unreadable: 400,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.SchemaViolation: 422,
    errors.CallerGone: 499,
    errors.ModelFailed: 500,
    errors.OutputRefused: 500,
    errors.InternalFailure: 500,
    errors.NotReady: 503,
    errors.Overloaded: 503,
    errors.ModelUnavailable: 503,
    errors.RecordFailed: 503,
    errors.DeadlineExceeded: 504,
}
RETRY_AFTER_S: Final = 1

GRPC_STATUS: Final[dict[type[CallFailure], str]] = {
    errors.Unreadable: "INVALID_ARGUMENT",
    errors.NotFound: "NOT_FOUND",
    errors.MethodNotAllowed: "UNIMPLEMENTED",
    errors.NotAcceptable: "INVALID_ARGUMENT",
    errors.TooLarge: "RESOURCE_EXHAUSTED",
    errors.UnsupportedMedia: "INVALID_ARGUMENT",
    errors.SchemaViolation: "INVALID_ARGUMENT",
    errors.CallerGone: "CANCELLED",
    errors.ModelFailed: "INTERNAL",
    errors.OutputRefused: "INTERNAL",
    errors.InternalFailure: "INTERNAL",
    errors.NotReady: "UNAVAILABLE",
    errors.Overloaded: "UNAVAILABLE",
    errors.ModelUnavailable: "UNAVAILABLE",
    errors.RecordFailed: "UNAVAILABLE",
    errors.DeadlineExceeded: "DEADLINE_EXCEEDED",
}
"""Names of gRPC's status codes. UNAVAILABLE is what its clients try again."""

_OTHERWISE: Final[dict[str, dict[type[CallFailure], int]]] = {
    "tfserving": {errors.SchemaViolation: 400},
    "mlflow": {errors.SchemaViolation: 400},
    "mlflow-csv": {errors.SchemaViolation: 400},
}
"""Where a protocol, by its face's name, has another status: to TensorFlow Serving and MLflow all wrong input is 400."""


def http_status(failure: CallFailure, protocol: str) -> int:
    """The status of `failure` in a protocol."""
    kind = type(failure)
    return _OTHERWISE.get(protocol, HTTP_STATUS).get(kind, HTTP_STATUS[kind])


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The inside of an error body: a stable code, a message for a person, and the id that leads to the log."""

    code: str
    message: str
    request_id: str | None = None
    violations: list[Violation] | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The error body of Penstock's own API."""

    error: ErrorDetail


def error_body(failure: CallFailure, request_id: str | None) -> bytes:
    """The JSON error body of `failure`."""
    violations = failure.violations if isinstance(failure, SchemaViolation) else None
    return msgspec.json.encode(ErrorBody(ErrorDetail(failure.code, str(failure), request_id, violations)))


def plain_error(failure: CallFailure, request_id: str | None) -> bytes:
    """`{"error": text}`, as the Open Inference Protocol and TensorFlow Serving have it, every violation in the text."""
    return msgspec.json.encode({"error": message_of(failure)})


def coded_error(failure: CallFailure, request_id: str | None) -> bytes:
    """`{"error_code": …, "message": …}`, as MLflow has it."""
    code = _ERROR_CODES.get(HTTP_STATUS[type(failure)], "BAD_REQUEST" if is_refusal(failure) else "INTERNAL_ERROR")
    return msgspec.json.encode({"error_code": code, "message": message_of(failure)})


def refusal_body(path: str, failure: CallFailure, request_id: str | None) -> bytes:
    """The error body of the protocol that `path` belongs to, where no face is known: no such path, another method."""
    shape = next((shape for pattern, shape in _SHAPES if pattern.fullmatch(path)), error_body)
    return shape(failure, request_id)


_ERROR_CODES: Final = {404: "RESOURCE_DOES_NOT_EXIST", 503: "TEMPORARILY_UNAVAILABLE"}
"""MLflow's names by status, where they are not those of every 4xx or 5xx."""

_SHAPES: Final[tuple[tuple[re.Pattern[str], Callable[[CallFailure, str | None], bytes]], ...]] = (
    (re.compile(r"/v2(/.*)?", re.DOTALL), plain_error),
    (re.compile(r"/v1/models/[^/]+(/.*)?(:[a-z]+|/metadata)", re.DOTALL), plain_error),
    (re.compile(r"/v1/models/[^/]+/(versions|labels)/[^/]+"), plain_error),
    (re.compile(r"/(invocations|ping|version)"), coded_error),
)


def message_of(failure: CallFailure) -> str:
    """The message, for bodies that have nothing else; with all violations, of which `str(failure)` has the first."""
    if not isinstance(failure, SchemaViolation) or len(failure.violations) < 2:
        return str(failure)
    more = failure.total - len(failure.violations)
    return "; ".join(map(str, failure.violations)) + (f" (and {more} more)" if more else "")


def is_refusal(failure: CallFailure) -> bool:
    """Whether the fault is the caller's (4xx), not ours (5xx)."""
    return HTTP_STATUS[type(failure)] < 500
