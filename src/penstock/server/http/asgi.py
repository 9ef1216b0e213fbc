"""HTTP as a raw ASGI application: bytes in, bytes out, and nothing between that the hot path does not need.

This is the only module that knows ASGI, so that a faster lane can take its place for the predict routes.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from penstock.errors import CallFailure, TooLarge, Unreadable, UnsupportedMedia
from penstock.runtime import Flight
from penstock.server.call import Call, Face, Reply
from penstock.server.failures import HTTP_STATUS, RETRY_AFTER_S, error_body
from penstock.server.http.cors import Cors
from penstock.server.http.pages import Pages
from penstock.server.http.routes import match
from penstock.server.predict import Predict
from penstock.server.protocols import Own, Short

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_MAX_CLIENT_ID = 128
_MAX_DIGITS = 18


class HttpApp:
    """The data port. One per worker; runs on its event loop."""

    def __init__(self, predict: Predict, pages: Pages, *, cors: Cors, max_body_bytes: int, deadline_ms: int) -> None:
        self._predict = predict
        self._pages = pages
        self._cors = cors
        self._max_body_bytes = max_body_bytes
        self._deadline_ns = deadline_ms * 1_000_000
        self._faces: dict[str, Face] = {
            "predict": Own(),
            "short": Short(is_batch=False),
            "short_batch": Short(is_batch=True),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Never raises for what a client sends."""
        arrived_ns = time.monotonic_ns()
        found = match(scope["method"], scope["path"])
        if isinstance(found, CallFailure):
            preflight = self._cors.preflight(scope)
            if preflight is not None:
                await _send(send, 204, preflight, b"")
            else:
                await self._refuse(scope, send, found)
        elif found[0].answer in self._faces:
            await self._answer(scope, receive, send, (*found, arrived_ns))
        else:
            page = self._pages.page(found[0].answer, found[1])
            await _send(send, page.status, [*page.headers, *self._cors.headers(scope)], page.body)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, found: Any) -> None:
        route, names, arrived_ns = found
        face = self._faces[route.answer]
        call = Call(face, b"", arrived_ns)
        call.deadline_ns = arrived_ns + self._deadline_ns
        _address(call, names)
        _read_headers(call, scope["headers"], self._max_body_bytes)
        if not isinstance(call.failure, TooLarge):
            try:
                call.body = await read_body(receive, self._max_body_bytes)
            except TooLarge as failure:
                call.failure = failure
            except ConnectionResetError:
                return  # gone before its request was whole: there is nobody to answer and nothing was asked
        landed: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        Flight(self._predict(call), landed.set_result).go()
        reply = await landed
        headers = [_JSON, *_reply_headers(reply, call), *self._cors.headers(scope)]
        if reply.failure is None:
            await _send(send, 200, headers, face.answer(reply))
        else:
            headers += _failure_headers(reply.failure)
            body = face.refusal(reply.failure, reply.request_id)
            await _send(send, HTTP_STATUS[type(reply.failure)], headers, body)

    async def _refuse(self, scope: Scope, send: Send, failure: CallFailure) -> None:
        headers = [_JSON, *_failure_headers(failure), *self._cors.headers(scope)]
        await _send(send, HTTP_STATUS[type(failure)], headers, error_body(failure, None))


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to be, and ConnectionResetError if the caller hangs up."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message["body"]
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    parts, size_bytes = [], 0
    while message["type"] == "http.request":
        size_bytes += len(message["body"])
        if size_bytes > limit_bytes:
            raise _too_large(limit_bytes)
        parts.append(message["body"])
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise ConnectionResetError


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than server.max_body_bytes, which is {limit_bytes}")


def _address(call: Call, names: Mapping[str, str]) -> None:
    call.model = names.get("model")
    call.alias = names.get("alias")
    version = names.get("version")
    if version is None:
        return
    if version.isascii() and version.isdigit():
        call.version = int(version)
    else:
        call.failure = Unreadable(f"a version is a number such as 3, not {version!r}")


def _read_headers(call: Call, headers: Headers, limit_bytes: int) -> None:
    for name, value in headers:
        if name == b"content-type":
            if value != b"application/json" and not _is_json(value):
                call.failure = UnsupportedMedia(
                    f"this route reads application/json, not {value[:80].decode('latin-1')}: "
                    f"send the header Content-Type: application/json"
                )
        elif name == b"content-length":
            # Known before the body comes, so that a caller who waits for "100 Continue" need not send it.
            if value.isdigit() and (len(value) > _MAX_DIGITS or int(value) > limit_bytes):
                call.failure = _too_large(limit_bytes)
                return
        elif name == b"content-encoding":
            if value.lower() != b"identity":
                call.failure = UnsupportedMedia(
                    f"this route reads bodies as they are, not packed with {value[:80].decode('latin-1')}: "
                    f"send the body without Content-Encoding"
                )
        elif name == b"x-request-id":
            call.client_id = _client_id(value)
        elif name == b"x-deadline-ms":
            _set_deadline(call, value)


def _is_json(content_type: bytes) -> bool:
    """Whether a Content-Type is JSON, with parameters such as a charset or without."""
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


def _client_id(value: bytes) -> str | None:
    text = value.decode("latin-1")
    return text if len(text) <= _MAX_CLIENT_ID and text.isascii() and text.isprintable() else None


def _set_deadline(call: Call, value: bytes) -> None:
    if value.isdigit() and len(value) <= 9:
        call.deadline_ns = min(call.deadline_ns, call.arrived_ns + int(value) * 1_000_000)
    else:
        call.failure = Unreadable("X-Deadline-Ms is a whole number of milliseconds")


def _reply_headers(reply: Reply, call: Call) -> Headers:
    headers = [(b"x-penstock-request-id", reply.request_id.encode())]
    if call.client_id is not None:
        headers.append((b"x-request-id", call.client_id.encode()))
    if reply.model is not None:
        headers += _model_headers(reply.model.name, reply.model.version)
    return headers


@functools.lru_cache(1024)
def _model_headers(name: str, version: int) -> tuple[tuple[bytes, bytes], ...]:
    return (b"x-penstock-model", name.encode()), (b"x-penstock-version", b"%d" % version)


def _failure_headers(failure: CallFailure) -> Headers:
    status = HTTP_STATUS[type(failure)]
    headers: Headers = []
    if status == 503:
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    if status == 413:
        headers.append((b"connection", b"close"))
    if hasattr(failure, "allowed"):
        headers.append((b"allow", ", ".join(failure.allowed).encode()))
    return headers


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    if status != 204:  # which has neither a body nor a length (RFC 9110, 8.6)
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
