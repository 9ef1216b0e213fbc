"""The only table from failures to what a protocol calls them; a test walks the subclasses of `CallFailure`."""

from __future__ import annotations

from typing import Final

import msgspec

import penstock.errors as errors
from penstock.errors import CallFailure, SchemaViolation, Violation

HTTP_STATUS: Final[dict[type[CallFailure], int]] = {
    errors.Unreadable: 400,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.SchemaViolation: 422,
    errors.CallerGone: 499,
    errors.ModelFailed: 500,
    errors.InternalFailure: 500,
    errors.NotReady: 503,
    errors.Overloaded: 503,
    errors.ModelUnavailable: 503,
    errors.RecordFailed: 503,
    errors.DeadlineExceeded: 504,
}
RETRY_AFTER_S: Final = 1


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


def is_refusal(failure: CallFailure) -> bool:
    """Whether the fault is the caller's (4xx), not ours (5xx)."""
    return HTTP_STATUS[type(failure)] < 500
