"""A prediction over HTTP, apart from how its bytes travel: a request's head to a `Call`, a `Reply` to a response.

The ASGI application and the fast lane both stand on this, so that they cannot answer differently.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from penstock.assignment import Assigned
from penstock.errors import CallFailure, ModelUnavailable, TooLarge, Unreadable, UnsupportedMedia
from penstock.runtime import Version
from penstock.server.call import Call, Face
from penstock.server.failures import HTTP_STATUS, RETRY_AFTER_S, http_status
from penstock.server.http.media import choose
from penstock.server.http.packing import coding_of
from penstock.server.http.routes import Route, match
from penstock.server.predict import Predict
from penstock.server.protocols import V2, Mlflow, MlflowCsv, Own, Short, TfServing, arrow_faces
from penstock.telemetry import trace_of

Header = tuple[bytes, bytes]
C = TypeVar("C", bound=Call)
Headers = list[Header]
Way = tuple[Sequence[Face], Mapping[str, str]]
"""What a route's path leads to: its faces, and the names in the path."""

KEY_HEADER = b"x-penstock-key"
_JSON = b"application/json"  # every protocol refuses in it
_MAX_CLIENT_ID = 128
_MAX_DIGITS = 18
_MAX_NAME = 64


class Response(msgspec.Struct, frozen=True):
    """What goes back over HTTP, but for the headers that belong to the connection."""

    status: int
    headers: Headers
    body: bytes


class Predictions:
    """The routes that run a model. One per worker, on its event loop."""

    def __init__(self, predict: Predict, *, max_body_bytes: int, deadline_ms: int) -> None:
        self.start = predict.start
        """Sends a call with its body down the hot path; its `done` gets it back."""
        self.intake = predict.intake
        self.max_body_bytes = max_body_bytes
        self._deadline_ns = deadline_ms * 1_000_000
        own = Own()
        # Several faces of a route: `media.choose` takes one by Content-Type and Accept, the first by default.
        self._faces: dict[str, Sequence[Face]] = {
            "predict": (own, *arrow_faces(own, max_body_bytes)),
            "infer": (V2(),),
            "tf_predict": (TfServing(),),
            "tf_classify": (TfServing("classify"),),
            "tf_regress": (TfServing("regress"),),
            "invocations": (Mlflow(), MlflowCsv()),
            "short": (Short(is_batch=False),),
            "short_batch": (Short(is_batch=True),),
        }

    def find(self, method: str, path: str) -> Way | None:
        """The faces and the names in the path of a prediction's route; None for every other request."""
        found = match(method, path)
        return None if isinstance(found, CallFailure) else self.faces_of(*found)

    def faces_of(self, route: Route, names: Mapping[str, str]) -> Way | None:
        """As `find`, for a route that is already found."""
        faces = self._faces.get(route.answer)
        return None if faces is None else (faces, names)

    def call(self, faces: Sequence[Face], names: Mapping[str, str], headers: Iterable[Header], *, kind: type[C]) -> C:
        """The call that a request's head announces, without its body; what is wrong with the head is its `failure`."""
        arrived_ns = time.monotonic_ns()
        call = kind(faces[0], b"", arrived_ns)
        call.deadline_ns = arrived_ns + self._deadline_ns
        call.model = names.get("model")
        call.alias = names.get("alias")
        if "version" in names:
            _set_version(call, names["version"])
        _read_headers(call, headers, faces, self.max_body_bytes)
        return call


def response_of(call: Call, answered: bytes | None = None) -> Response:
    """The response to a finished call; `answered` is its body, if it is made already."""
    reply = call.reply
    if answered is None:
        answered = call.face.answer(call) if reply.failure is None else b""
    kind = call.face.writes if reply.failure is None else _JSON
    headers = [(b"content-type", kind)] if not reply.headers else [*reply.headers]
    if reply.model is not None:
        headers += version_headers(reply.model, call.assigned)
    headers.append((b"x-penstock-request-id", reply.request_id.encode()))
    if call.client_id is not None:
        headers.append((b"x-request-id", call.client_id.encode()))
    if reply.fallback is not None:
        headers.append((b"x-penstock-fallback", reply.fallback.kind.encode()))
    if reply.is_cached:
        headers.append((b"x-penstock-cache", b"hit"))
    if reply.failure is None:
        return Response(200, headers, answered)
    headers += failure_headers(reply.failure)
    status = http_status(reply.failure, call.face.name)
    return Response(status, headers, call.face.refusal(reply.failure, reply.request_id))


def version_headers(model: Version, assigned: Assigned | None) -> Headers:
    """The headers that name the version that answered, and of an experiment its name and the arm."""
    headers = [(b"x-penstock-model", model.name.encode()), (b"x-penstock-version", b"%d" % model.version)]
    if assigned is not None:
        headers.append((b"x-penstock-experiment", assigned.experiment.encode()))
        if assigned.arm is not None:
            headers.append((b"x-penstock-arm", assigned.arm.encode()))
    return headers


def failure_headers(failure: CallFailure) -> Headers:
    """The headers that a failure asks for: when to come again, what is allowed, that the connection ends."""
    status = HTTP_STATUS[type(failure)]
    headers: Headers = []
    if status == 503:
        wait_s = failure.retry_after_s if isinstance(failure, ModelUnavailable) else RETRY_AFTER_S
        headers.append((b"retry-after", b"%d" % wait_s))
    if status == 413:
        headers.append((b"connection", b"close"))
    if hasattr(failure, "allowed"):
        headers.append((b"allow", ", ".join(failure.allowed).encode()))
    return headers


def too_large(limit_bytes: int) -> TooLarge:
    """The failure of a body above the limit."""
    return TooLarge(f"the body is larger than server.max_body_bytes, which is {limit_bytes}")


def _set_version(call: Call, version: str) -> None:
    if version.isascii() and version.isdigit():
        call.version = int(version)
    else:
        call.failure = Unreadable(f"a version is a number such as 3, not {version!r}")


def _read_headers(call: Call, headers: Iterable[Header], faces: Sequence[Face], limit_bytes: int) -> None:
    content_type = accept = length = None
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"accept":
            accept = value if accept is None else accept + b"," + value
        elif name == b"content-length":
            length = value
        elif name == b"content-encoding":
            try:
                coding_of(value)
            except UnsupportedMedia as unknown:
                call.failure = unknown
        elif name == b"x-penstock-model" and call.model is None:
            call.model = value[: _MAX_NAME + 1].decode("latin-1")
        elif name == b"x-request-id":
            call.client_id = _client_id(value)
        elif name == KEY_HEADER:
            _set_key(call, value)
        elif name == b"x-deadline-ms":
            _set_deadline(call, value)
        elif name == b"traceparent":
            call.trace = None if call.trace is not None else trace_of(value)  # two of them are none
    call.face, failure = choose(faces, content_type, accept)
    call.failure = failure or call.failure
    # Known before the body comes, so that a caller who waits for "100 Continue" need not send it.
    if length is not None and length.isdigit() and (len(length) > _MAX_DIGITS or int(length) > limit_bytes):
        call.failure = too_large(limit_bytes)


def _client_id(value: bytes) -> str | None:
    text = value.decode("latin-1")
    return text if len(text) <= _MAX_CLIENT_ID and text.isascii() and text.isprintable() else None


def _set_key(call: Call, value: bytes) -> None:
    try:
        call.key = value.decode()
    except UnicodeDecodeError:
        call.failure = Unreadable("X-Penstock-Key is not UTF-8: send the caller's key as it stands in `key`")


def _set_deadline(call: Call, value: bytes) -> None:
    if value.isdigit() and len(value) <= 9:
        call.deadline_ns = min(call.deadline_ns, call.arrived_ns + int(value) * 1_000_000)
    else:
        call.failure = Unreadable("X-Deadline-Ms is a whole number of milliseconds")
