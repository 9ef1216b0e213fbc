"""The fast lane: a plain prediction request goes from the parser to the hot path and back to the transport, with no
ASGI scope and no task. `connection.py` puts a request on it; every oddity takes the ASGI path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from penstock.server.call import Call, Reply
from penstock.server.http.predictions import Header, Headers, Predictions, response_of

MAX_BODY_BYTES: Final = 65_536
"""Larger bodies take the ASGI path, which stops reading when they come faster than they are taken."""

ODD_HEADERS: Final = frozenset({b"expect", b"origin", b"transfer-encoding", b"upgrade"})
"""A request with one of these takes the ASGI path."""


class LaneCycle:
    """One request on the fast lane; stands where uvicorn keeps its own cycle, and has what uvicorn reads of one."""

    __slots__ = ("body", "call", "disconnected", "keep_alive", "more_body", "response_complete", "response_started")

    def __init__(self, call: Call, *, keep_alive: bool) -> None:
        self.call = call
        self.body = b""
        self.more_body = True
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_started = False
        self.response_complete = False

    @property
    def message_event(self) -> LaneCycle:
        """uvicorn wakes a cycle's task by its event; there is no task here."""
        return self

    def set(self) -> None:
        """As an event that nobody waits for."""


class Lane:
    """What all connections of a worker share: the routes of the lane, and the encoded default headers."""

    def __init__(self, predictions: Predictions) -> None:
        self._predictions = predictions
        self._defaults: Headers = []
        self._encoded_defaults = b""

    def call(self, url: bytes, headers: Headers, length: bytes) -> Call | None:
        """The call of a POST to `url`, if it is a plain prediction whose stated `length` fits the lane."""
        if b"%" in url or b"?" in url or not length.isdigit() or len(length) > 5 or int(length) > MAX_BODY_BYTES:
            return None
        found = self._predictions.find("POST", url.decode("latin-1"))
        return None if found is None else self._predictions.call(*found, headers)

    def start(self, cycle: LaneCycle, done: Callable[[Reply], None]) -> None:
        """Send the request, now whole, down the hot path."""
        cycle.call.body = cycle.body
        self._predictions.start(cycle.call, done)

    def encoded(self, cycle: LaneCycle, reply: Reply, defaults: Headers) -> bytes:
        """The response as bytes; `defaults` are the server's own headers (the date)."""
        if defaults is not self._defaults:
            self._defaults, self._encoded_defaults = defaults, _lines(defaults)
        response = response_of(cycle.call, reply)
        if (b"connection", b"close") in response.headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            response.headers.append((b"connection", b"close"))
        head = STATUS_LINE[response.status] + self._encoded_defaults + _lines(response.headers)
        return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(response.body), response.body)


def _lines(headers: list[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
