"""The table from failures to HTTP: complete, and as wire.md has it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

import penstock.errors as errors
from penstock.errors import CallFailure, SchemaViolation, Violation
from penstock.server.failures import (
    GRPC_STATUS,
    HTTP_STATUS,
    ErrorBody,
    coded_error,
    error_body,
    http_status,
    is_refusal,
    plain_error,
)

WIRE = {
    "unreadable": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "too_large": 413,
    "unsupported_media_type": 415,
    "schema_violation": 422,
    "caller_gone": 499,
    "model_failed": 500,
    "output_refused": 500,
    "internal": 500,
    "not_ready": 503,
    "overloaded": 503,
    "model_unavailable": 503,
    "record_failed": 503,
    "deadline_exceeded": 504,
}


def descendants(kind: type[CallFailure]) -> Iterator[type[CallFailure]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_each_failure_has_its_status() -> None:
    """Every kind of failure, also one of another module, has the status that wire.md gives to its code."""
    assert WIRE == {kind.code: HTTP_STATUS[kind] for kind in descendants(CallFailure)}
    assert set(HTTP_STATUS) == set(descendants(CallFailure))


def test_each_failure_has_its_grpc_status() -> None:
    """Every kind of failure has a status of gRPC; what may be tried again over HTTP may be tried again there."""
    assert set(GRPC_STATUS) == set(descendants(CallFailure))
    assert {kind for kind, status in HTTP_STATUS.items() if status == 503} == {
        kind for kind, status in GRPC_STATUS.items() if status == "UNAVAILABLE"
    }


@pytest.mark.parametrize("kind", HTTP_STATUS, ids=lambda kind: kind.code)
def test_refusals_are_the_callers_fault(kind: type[CallFailure]) -> None:
    """A status of 4xx is recorded as a refusal, of 5xx as a failure."""
    assert (WIRE[kind.code] < 500) == is_refusal(kind.__new__(kind))


def test_the_error_body() -> None:
    """The body has code, message and request id, and violations only where there are some."""
    violation = Violation("$.instances[0].age", "`int`", '"41"')
    found = msgspec.json.decode(error_body(SchemaViolation([violation]), "id-1"), type=ErrorBody).error
    assert ("schema_violation", str(violation), "id-1", [violation]) == (
        found.code,
        found.message,
        found.request_id,
        found.violations,
    )
    assert b'{"error":{"code":"not_found","message":"no"}}' == error_body(errors.NotFound("no"), None)


@pytest.mark.parametrize("protocol", ["penstock", "tfserving", "mlflow", "mlflow-csv"])
def test_each_protocols_status(protocol: str) -> None:
    """TensorFlow Serving and MLflow know no 422: rows that break the schema are 400 there, all else is as elsewhere."""
    expected = {**HTTP_STATUS, SchemaViolation: 422 if protocol == "penstock" else 400}
    assert expected == {kind: http_status(kind.__new__(kind), protocol) for kind in HTTP_STATUS}


def test_the_error_bodies_of_others() -> None:
    """A body that has a message only tells all violations in it; MLflow's has its own names of codes."""
    places = [Violation(f"$[{place}].age", "`int`", '"41"') for place in range(2)]
    said = f"{places[0]}; {places[1]} (and 3 more)"
    failure = SchemaViolation(places, 5)
    assert {"error": said} == msgspec.json.decode(plain_error(failure, "id-1"))
    assert {"error_code": "BAD_REQUEST", "message": said} == msgspec.json.decode(coded_error(failure, "id-1"))
    codes = {
        kind: msgspec.json.decode(coded_error(kind("said"), "id-1"))["error_code"]
        for kind in (errors.NotFound, errors.TooLarge, errors.ModelFailed, errors.Overloaded)
    }
    assert ["RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"] == list(
        codes.values()
    )
