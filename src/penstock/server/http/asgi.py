"""HTTP as a raw ASGI application: every route, and every oddity of HTTP that the fast lane leaves alone.

This is the only module that knows ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from penstock.errors import CallFailure, Overloaded, TooLarge, Unreadable
from penstock.server.call import Call
from penstock.server.failures import HTTP_STATUS, refusal_body
from penstock.server.feedback import Feedback, Statements
from penstock.server.http.cors import Cors
from penstock.server.http.packing import LEAST_BYTES, answer_coding, coding_of, packed, unpacked
from penstock.server.http.pages import Pages
from penstock.server.http.predictions import Headers, Predictions, Response, failure_headers, response_of, too_large
from penstock.server.http.routes import match
from penstock.server.intake import Intake, overloaded
from penstock.server.measures import FEEDBACK

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CALL = "penstock.call"
"""The key of a scope under which the connection finds the call, to tell it that its caller hung up."""


class HttpApp:
    """The data port. One per worker; runs on its event loop."""

    def __init__(self, predictions: Predictions, pages: Pages, cors: Cors, feedback: Feedback) -> None:
        self._predictions = predictions
        self._pages = pages
        self._cors = cors
        self._feedback = feedback
        self._statements = (Statements(),)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Never raises for what a client sends."""
        found = match(scope["method"], scope["path"])
        if isinstance(found, CallFailure):
            await self._refuse(scope, send, found)
            return
        is_feedback = found[0].answer == FEEDBACK
        asked = (self._statements, found[1]) if is_feedback else self._predictions.faces_of(*found)
        if asked is not None:
            call = self._predictions.call(*asked, scope["headers"], kind=Call)
            call.headers = dict(scope["headers"])
            start = self._feedback.start if is_feedback else self._predictions.start
            await self._answer(scope, receive, send, call=call, start=start)
            return
        try:
            page = await self._pages.page(found[0].answer, found[1])
        except CallFailure as failure:
            await self._refuse(scope, send, failure)
            return
        await _send(send, page.status, [*page.headers, *self._cors.headers(scope)], page.body)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, *, call: Call, start: Callable[[Call], None]
    ) -> None:
        coding = b"" if call.failure is not None else coding_of(call.headers.get(b"content-encoding", b""))
        if not isinstance(call.failure, TooLarge):
            limit_bytes, intake = self._predictions.max_body_bytes, self._predictions.intake
            try:
                body = await read_body(receive, limit_bytes, intake)
                call.body = await unpacked(body, coding, limit_bytes, intake) if coding else body
            except (TooLarge, Overloaded, Unreadable) as failure:
                call.failure = failure
            except ConnectionResetError:
                return  # gone before its request was whole: there is nobody to answer and nothing was asked
        scope[CALL] = call
        landed: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        call.done = landed.set_result
        start(call)
        response = response_of(await landed)
        if coding:
            response = await _packed(response, call.headers.get(b"accept-encoding", b""))
        await _send(send, response.status, [*response.headers, *self._cors.headers(scope)], response.body)

    async def _refuse(self, scope: Scope, send: Send, failure: CallFailure) -> None:
        preflight = self._cors.preflight(scope)
        if preflight is not None:
            await _send(send, 204, preflight, b"")
            return
        headers = [(b"content-type", b"application/json"), *failure_headers(failure), *self._cors.headers(scope)]
        await _send(send, HTTP_STATUS[type(failure)], headers, refusal_body(scope["path"], failure, None))


async def read_body(receive: Receive, limit_bytes: int, intake: Intake) -> bytes:
    """The whole body, held by `intake`.

    Raises TooLarge and Overloaded as soon as it is known to be, and ConnectionResetError if the caller hangs up;
    nothing is held then.
    """
    parts: list[bytes] = []
    size_bytes = 0
    try:
        while (message := await receive())["type"] == "http.request":
            part = message["body"]
            size_bytes += len(part)
            if not intake.hold(len(part), size_bytes):
                raise overloaded()
            if size_bytes > limit_bytes:
                raise too_large(limit_bytes)
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
    except BaseException:
        intake.held_bytes -= size_bytes
        raise
    intake.held_bytes -= size_bytes
    raise ConnectionResetError


async def _packed(response: Response, accept: bytes) -> Response:
    """The response packed as the caller accepts it: who packs gets packed, if there is enough of it."""
    coding = answer_coding(accept) if len(response.body) > LEAST_BYTES else b""
    if not coding:
        return response
    headers = [*response.headers, (b"content-encoding", coding), (b"vary", b"Accept-Encoding")]
    return Response(response.status, headers, await packed(response.body, coding))


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    if status != 204:  # which has neither a body nor a length (RFC 9110, 8.6)
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
