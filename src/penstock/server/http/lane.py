"""The fast lane: a plain prediction request goes from the parser to the hot path and back to the transport, with no
ASGI scope and no task. `connection.py` puts a request on it; every oddity takes the ASGI path.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from penstock.errors import Overloaded
from penstock.runtime import Version
from penstock.server.call import Call, Reply
from penstock.server.http.predictions import Header, Headers, Predictions, answer_headers, response_of

MAX_BODY_BYTES: Final = 65_536
"""Larger bodies take the ASGI path, which stops reading when they come faster than they are taken."""

ODD_HEADERS: Final = frozenset({b"expect", b"origin", b"transfer-encoding", b"upgrade"})
"""A request with one of these takes the ASGI path."""

MAX_HEADS: Final = 1024
MAX_HEAD_BYTES: Final = 2048
_END: Final = b"\r\n\r\n"
_OF_ONE_CALL: Final = frozenset({b"x-request-id", b"traceparent"})


class LaneCycle:
    """One request on the fast lane; stands where uvicorn keeps its own cycle, and has what uvicorn reads of one."""

    body = b""
    more_body = True
    disconnected = False
    response_started = False
    response_complete = False

    def __init__(self, call: Call, *, keep_alive: bool) -> None:
        self.call = call
        self.keep_alive = keep_alive

    @property
    def message_event(self) -> LaneCycle:
        """uvicorn wakes a cycle's task by its event; there is no task here."""
        return self

    def set(self) -> None:
        """As an event that nobody waits for."""


class Head:
    """What the parser made of a request's head. The same bytes mean the same again, so they are not parsed again."""

    __slots__ = ("_call", "_patience_ns", "keep_alive", "length")

    def __init__(self, call: Call, *, length: int, keep_alive: bool) -> None:
        self._call = call
        self._patience_ns = call.deadline_ns - call.arrived_ns
        self.length = length
        self.keep_alive = keep_alive

    def call(self, body: bytes) -> Call:
        """A new call with this head and `body`."""
        known, arrived_ns = self._call, time.monotonic_ns()
        call = Call(known.face, body, arrived_ns)
        call.deadline_ns = arrived_ns + self._patience_ns
        call.model, call.version, call.alias = known.model, known.version, known.alias
        return call


class Lane:
    """What all connections of a worker share: the routes of the lane, known heads, and the encoded headers."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        self._intake = predictions.intake
        self._heads: dict[bytes, Head] = {}
        self._defaults: Headers = []
        self._encoded_defaults = b""
        self._openings: dict[Version, bytes] = {}

    def call(self, url: bytes, headers: Headers, length: bytes) -> Call | None:
        """The call of a POST to `url`, if it is a plain prediction whose stated `length` fits the lane."""
        if b"%" in url or b"?" in url or not length.isdigit() or len(length) > 5 or int(length) > MAX_BODY_BYTES:
            return None
        found = self._predictions.find("POST", url.decode("latin-1"))
        return None if found is None else self._predictions.call(*found, headers)

    def known(self, data: bytes) -> LaneCycle | None:
        """The request that `data` is, if it is one whole request and its head is known."""
        end = data.find(_END) + len(_END)
        head = self._heads.get(data[:end])
        if head is None or len(data) - end != head.length:
            return None
        cycle = LaneCycle(head.call(b""), keep_alive=head.keep_alive)
        self.take(cycle.call, data[end:])
        return cycle

    def take(self, call: Call, part: bytes) -> None:
        """Add a part to the body of `call`, while the worker has room for it."""
        if call.failure is None or not isinstance(call.failure, Overloaded):
            call.body += part
            if not self._intake.hold(len(part), len(call.body)):
                self._intake.refuse(call)

    def abandon(self, cycle: LaneCycle) -> None:
        """The caller of a request under way is gone."""
        if cycle.more_body:
            self._intake.let_go(cycle.call)
        else:
            cycle.call.hang_up()

    def learn(self, data: bytes, cycle: LaneCycle, headers: Headers) -> None:
        """Keep the head of `data`, from which `cycle` was parsed, unless it will hardly come a second time."""
        call, end = cycle.call, data.find(_END) + len(_END)
        is_whole = end >= len(_END) and len(data) - end == len(call.body)
        if not is_whole or end > MAX_HEAD_BYTES or call.failure is not None or _OF_ONE_CALL.intersection(dict(headers)):
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[data[:end]] = Head(call, length=len(call.body), keep_alive=cycle.keep_alive)

    def start(self, cycle: LaneCycle, done: Callable[[Reply], None]) -> None:
        """Send the request, now whole, down the hot path."""
        self._predictions.start(cycle.call, done)

    def encoded(self, cycle: LaneCycle, reply: Reply, defaults: Headers) -> bytes:
        """The response as bytes; `defaults` are the server's own headers (the date)."""
        if defaults is not self._defaults:
            self._defaults, self._encoded_defaults = defaults, _lines(defaults)
            self._openings.clear()
        call = cycle.call
        is_plain = reply.failure is None and reply.fallback is None and not reply.is_cached
        if is_plain and cycle.keep_alive and call.client_id is None:
            opening = self._openings.get(reply.answerer) or self._open(reply.answerer)
            body = call.face.answer(reply)
            return _ANSWER % (opening, reply.request_id.encode(), len(body), body)
        response = response_of(call, reply)
        if (b"connection", b"close") in response.headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            response.headers.append((b"connection", b"close"))
        head = STATUS_LINE[response.status] + self._encoded_defaults + _lines(response.headers)
        return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(response.body), response.body)

    def _open(self, model: Version) -> bytes:
        """The head of a plain answer of `model`, up to what differs from call to call."""
        opening = STATUS_LINE[200] + self._encoded_defaults + _lines(answer_headers(model))
        self._openings[model] = opening
        return opening


_ANSWER: Final = b"%bx-penstock-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"


def _lines(headers: list[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
