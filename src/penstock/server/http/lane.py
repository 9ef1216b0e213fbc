"""The fast lane: a plain prediction request goes from the parser to the hot path and back to the transport, with no
ASGI scope and no task. `connection.py` puts a request on it; every oddity takes the ASGI path.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from penstock.assignment import Assigned
from penstock.errors import Overloaded
from penstock.runtime import Version
from penstock.server.call import Call
from penstock.server.http.predictions import (
    KEY_HEADER,
    Header,
    Headers,
    Predictions,
    response_of,
    version_headers,
)

MAX_BODY_BYTES: Final = 65_536
"""Larger bodies take the ASGI path, which stops reading when they come faster than they are taken."""

ODD_HEADERS: Final = frozenset({b"content-encoding", b"expect", b"origin", b"transfer-encoding", b"upgrade"})
"""A request with one of these takes the ASGI path."""

_FACES: Final = frozenset({"penstock", "short", "short-batch", "tfserving", "mlflow", "v2"})
"""The protocols on the lane: those whose answers are JSON and need no headers of their own."""

MAX_HEADS: Final = 1024
MAX_HEAD_BYTES: Final = 2048
_END: Final = b"\r\n\r\n"
_OF_ONE_CALL: Final = frozenset({KEY_HEADER, b"x-request-id", b"traceparent"})


class LaneCall(Call):
    """A call on the fast lane. It stands where uvicorn keeps its own cycle, and has what uvicorn reads of one."""

    more_body = True
    keep_alive = True
    disconnected = False
    response_started = False
    response_complete = False

    @property
    def message_event(self) -> LaneCall:
        """uvicorn wakes a cycle's task by its event; there is no task here."""
        return self

    def set(self) -> None:
        """As an event that nobody waits for."""


class Head(msgspec.Struct, frozen=True):
    """What the parser made of a request's head. The same bytes mean the same again, so they are not parsed again.

    `call` is the first call with it, `patience_ns` its time from arrival to deadline, `length` that of the body. Most
    name only a model; a `special` one names a version or an alias, too, or ends its connection.
    """

    call: LaneCall
    patience_ns: int
    length: int
    is_special: bool


class Lane:
    """What all connections of a worker share: the routes of the lane, known heads, and the encoded headers."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        self.start = predictions.start
        """Sends a call, now whole, down the hot path."""
        self._intake = predictions.intake
        self._heads: dict[bytes, Head] = {}
        self._defaults: Headers = []
        self._encoded_defaults = b""
        self._openings: dict[object, bytes] = {}  # by identity: a version that is served no more must be freed

    def call(self, url: bytes, headers: Headers, length: bytes) -> LaneCall | None:
        """The call of a POST to `url`, if it is a plain prediction whose stated `length` fits the lane."""
        if b"%" in url or b"?" in url or not length.isdigit() or len(length) > 5 or int(length) > MAX_BODY_BYTES:
            return None
        found = self._predictions.find("POST", url.decode("latin-1"))
        if found is None or found[0][0].name not in _FACES:
            return None
        call = self._predictions.call(*found, headers, kind=LaneCall)
        call.headers = dict(headers)
        return call if call.face is found[0][0] else None

    def known(self, data: bytes) -> LaneCall | None:
        """The call that `data` is, if it is one whole request and its head is known."""
        end = data.find(_END) + 4
        head = self._heads.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        first, intake, arrived_ns = head.call, self._intake, time.monotonic_ns()
        call = LaneCall(first.face, b"", arrived_ns)
        call.deadline_ns = arrived_ns + head.patience_ns
        call.model, call.headers, call.more_body = first.model, first.headers, False
        if head.is_special:
            call.version, call.alias, call.keep_alive = first.version, first.alias, first.keep_alive
        held_bytes = intake.held_bytes + head.length
        if held_bytes <= intake.limit_bytes:
            intake.held_bytes = held_bytes
            call.body = data[end:]
        else:
            self.take(call, data[end:])
        return call

    def take(self, call: Call, part: bytes) -> None:
        """Add a part to the body of `call`, while the worker has room for it."""
        if call.failure is None or not isinstance(call.failure, Overloaded):
            call.body = call.body + part if call.body else part
            if not self._intake.hold(len(part), len(call.body)):
                self._intake.refuse(call)

    def abandon(self, call: LaneCall) -> None:
        """The caller of a request under way is gone."""
        if call.more_body:
            self._intake.let_go(call)
        else:
            call.hang_up()

    def learn(self, data: bytes, call: LaneCall, headers: Headers) -> None:
        """Keep the head of `data`, from which `call` was parsed, unless it will hardly come a second time."""
        end = data.find(_END) + len(_END)
        is_whole = end >= len(_END) and len(data) - end == len(call.body)
        if not is_whole or end > MAX_HEAD_BYTES or call.failure is not None or _OF_ONE_CALL.intersection(dict(headers)):
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        first = LaneCall(call.face, b"", 0)
        first.model, first.version, first.alias = call.model, call.version, call.alias
        first.keep_alive, first.headers = call.keep_alive, call.headers
        is_special = (call.version, call.alias, call.keep_alive) != (None, None, True)
        patience_ns = call.deadline_ns - call.arrived_ns
        self._heads[data[:end]] = Head(first, patience_ns, length=len(call.body), is_special=is_special)

    def encoded(self, call: LaneCall, defaults: Headers) -> bytes:
        """The response as bytes; `defaults` are the server's own headers (the date)."""
        if defaults is not self._defaults:
            self._defaults, self._encoded_defaults = defaults, _lines(defaults)
            self._openings.clear()
        reply = call.reply
        model = reply.model
        body = None
        is_plain = reply.failure is None and reply.fallback is None and not reply.is_cached and call.client_id is None
        if is_plain and call.keep_alive and model is not None:
            assigned = call.assigned
            key = model.identity if assigned is None else (model.identity, assigned.experiment, assigned.arm)
            opening = self._openings.get(key) or self._open(key, model, assigned)
            body = call.face.answer(call)
            if not reply.headers:
                return _ANSWER % (opening, reply.request_id.encode(), len(body), body)
        response = response_of(call, body)
        if (b"connection", b"close") in response.headers:
            call.keep_alive = False
        elif not call.keep_alive:
            response.headers.append((b"connection", b"close"))
        head = STATUS_LINE[response.status] + self._encoded_defaults + _lines(response.headers)
        return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(response.body), response.body)

    def _open(self, key: object, model: Version, assigned: Assigned | None) -> bytes:
        """The head of a plain answer of `model`, up to what differs from call to call."""
        headers = [(b"content-type", b"application/json"), *version_headers(model, assigned)]
        opening = STATUS_LINE[200] + self._encoded_defaults + _lines(headers)
        self._openings[key] = opening
        return opening


_ANSWER: Final = b"%bx-penstock-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"


def _lines(headers: list[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
