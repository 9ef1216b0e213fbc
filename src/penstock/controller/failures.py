"""The only table from what an operator's command may raise to the control API's errors, and back in its client."""

from __future__ import annotations

from typing import Final

import msgspec

import penstock.errors as errors
from penstock.controller.messages import ControlErrorBody, ControlErrorDetail
from penstock.errors import MoveRefused, PenstockError
from penstock.server.failures import HTTP_STATUS

STATUS: Final[dict[type[PenstockError], int]] = {
    errors.QueryRefused: 400,
    errors.SettingsError: 400,
    errors.Forbidden: 403,
    errors.Unknown: 404,
    errors.Conflict: 409,
    errors.ControlError: 409,
    errors.InUse: 409,
    errors.BundleError: 422,
    errors.BundleRefused: 422,
    errors.MoveRefused: 422,
    errors.SchemaError: 422,
    errors.JobFailed: 500,
    errors.SegmentError: 500,
    errors.MissingExtra: 503,
    errors.RepositoryUnavailable: 503,
    errors.StateUnavailable: 503,
}
"""Beside `HTTP_STATUS`, from which come the failures of reading a request."""

_AGAIN: Final = frozenset({503})
_BUG: Final = "the controller failed: its log says where"


def status_of(error: Exception) -> int:
    """The status of `error`, or of the nearest kind above it; 500 for what nobody has foreseen."""
    for kind in type(error).__mro__:
        status = STATUS.get(kind, HTTP_STATUS.get(kind))
        if status is not None:
            return status
    return 500


def may_be_tried_again(status: int) -> bool:
    """Whether the same request may succeed a little later."""
    return status in _AGAIN


def control_error_body(error: Exception) -> bytes:
    """The JSON body of `error`; of what nobody has foreseen it tells nothing."""
    if not isinstance(error, PenstockError):
        detail = ControlErrorDetail(code=errors.InternalFailure.code, message=_BUG)
    elif isinstance(error, MoveRefused):
        detail = ControlErrorDetail(
            code=error.code, message=str(error), reasons=error.reasons, may_force=error.may_force
        )
    else:
        detail = ControlErrorDetail(code=error.code, message=str(error))
    return msgspec.json.encode(ControlErrorBody(detail))


def error_of(body: bytes, status: int, url: str) -> PenstockError:
    """What the controller raised, from its answer."""
    try:
        detail = msgspec.json.decode(body, type=ControlErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return errors.ControlError(
            f"{status} and no error of Penstock's from {url}: is a controller there, and what stands between?"
        )
    if detail.code == MoveRefused.code:
        error: PenstockError = MoveRefused("", detail.reasons, may_force=detail.may_force)
    else:
        error = _BY_CODE.get(detail.code, errors.ControlError)(detail.message)
    error.args = (detail.message,)
    return error


# How a request was read is not here: that is a ControlError, and a mistake of the client's.
_BY_CODE: Final = {kind.code: kind for kind in STATUS if kind not in (MoveRefused, errors.MissingExtra)} | {
    errors.NotFound.code: errors.Unknown  # a name that fits no path
}
