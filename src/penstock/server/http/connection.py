"""uvicorn's HTTP/1.1 connection, mended where it leaves a caller without an answer, or waits for one for ever.

An offer to upgrade is ignored as RFC 9110, 7.8, has it, where uvicorn drops the body. Bytes that are no HTTP get our
error body. Stopping answers what is on its way over idle connections. A request that is not whole by its deadline ends
its connection. Plain predictions take the fast lane (`lane.py`). uvicorn's minor version is pinned for this file.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from penstock.errors import Unreadable
from penstock.server.call import Call
from penstock.server.failures import error_body
from penstock.server.http.asgi import CALL
from penstock.server.http.door import Door, Farewell
from penstock.server.http.lane import ODD_HEADERS, Lane, LaneCall

Cycle: TypeAlias = RequestResponseCycle | LaneCall

_LEAVE_S = 0.25
_NOT_HTTP = error_body(Unreadable("the bytes are not an HTTP/1.1 request"), None)


class Http1(HttpToolsProtocol):
    """One connection; made by uvicorn. `request_s` is how long a request may take to arrive; without a `lane` every
    request takes the ASGI path. The `door` says whether there is room for another connection.
    """

    def __init__(self, *, request_s: float, lane: Lane | None, door: Door, **given: Any) -> None:
        super().__init__(**given)
        self._door = door
        self._request_s = request_s
        self._lane = lane
        self._is_odd = False
        self._length = b""
        self._running: Cycle | None = None
        self._is_leaving = False
        self._is_upgrade = False
        # When the request that is arriving began; None while none is.
        self._arriving_since_s: float | None = self.loop.time()
        # When the last answer was given; None while something is asked.
        self._idle_since_s: float | None = None
        self._watch = self.loop.call_later(self._look_s, self._look)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many: then whatever is sent gets a refusal, and the connection ends."""
        super().connection_made(transport)
        if self._door.is_full(len(self.connections)):
            self.connections.discard(self)
            self._watch.cancel()
            transport.set_protocol(self._door.turned_away(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request under way: uvicorn tells only the newest of several that came together."""
        self._watch.cancel()
        self._abandon()
        super().connection_lost(exc)
        self.cycle = self._running = None  # type: ignore[assignment]  # they know this object, too: a circle

    def data_received(self, data: bytes) -> None:
        """Parse what has come and start what is asked."""
        self._idle_since_s = None
        lane, cycle = self._lane, self.cycle
        if lane is None or self._arriving_since_s is not None or not (cycle is None or cycle.response_complete):
            self._parse(data)
            return
        call = lane.known(data)
        if call is not None:
            self.cycle = self._running = call  # type: ignore[assignment]
            call.done = self._land
            if self._is_leaving:
                call.keep_alive = False
            lane.start(call)
            return
        self._parse(data)
        parsed: Cycle = self.cycle
        if parsed is not cycle and isinstance(parsed, LaneCall) and not parsed.more_body:
            lane.learn(data, parsed, self.headers)

    def _parse(self, data: bytes) -> None:
        rest: bytes | memoryview = data
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    if self._is_leaving and self.cycle is not None:
                        self.cycle.keep_alive = False
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = memoryview(rest)[upgrade.args[0] :]
                    self._begin_again_without_upgrade()
        except httptools.HttpParserError:
            self._refuse()

    def on_response_complete(self) -> None:
        """Begin the next of several requests that came together, or note that the connection is idle.

        uvicorn starts and cancels a timer for each request; here one watch looks at the connection now and then.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self._idle_since_s = self.loop.time()

    def shutdown(self) -> None:
        """Answer what is under way or just arriving, and say so: the last answer carries `Connection: close`."""
        self._is_leaving = True
        if self._is_free:
            # uvicorn closes at once, which resets callers whose next request the kernel holds already.
            self.loop.call_later(_LEAVE_S, self._leave)
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        """Note when the request began to arrive. The ASGI scope is made when it is clear that one is needed."""
        self._arriving_since_s = self.loop.time()
        self._is_odd = False
        self._length = b""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, and note one that the fast lane leaves alone."""
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            self._length = value
        elif name in ODD_HEADERS:
            self._is_odd = True
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        """Start the request, unless it is to begin again."""
        # CONNECT asks for a tunnel: that is refused as it is.
        self._is_upgrade = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if self._is_upgrade:
            return
        call = None if self._is_odd else self._lane_call()
        if call is None:
            self._take_asgi()
        else:
            call.keep_alive = self.parser.should_keep_alive()
            self.cycle = self._running = call  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        cycle: Cycle = self.cycle
        if isinstance(cycle, LaneCall):
            if self._lane is not None:
                self._lane.take(cycle, body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End the body, unless the parser has not looked at it yet."""
        if self._is_upgrade:
            return
        self._arriving_since_s = None
        cycle: Cycle = self.cycle
        if isinstance(cycle, LaneCall):
            self._start(cycle)
        else:
            super().on_message_complete()

    @property
    def _is_free(self) -> bool:
        """Whether nothing is asked that has yet to get its answer."""
        return self.cycle is None or self.cycle.response_complete

    def _start(self, call: LaneCall) -> None:
        """Send a whole request down the fast lane."""
        call.more_body = False
        if self._is_leaving:
            call.keep_alive = False
        call.done = self._land
        if self._lane is not None:
            self._lane.start(call)

    def _lane_call(self) -> LaneCall | None:
        """The call of a request that fits the fast lane."""
        if self._lane is None or not self._is_free or self.parser.get_method() != b"POST":
            return None
        return (
            self._lane.call(self.url, self.headers, self._length) if self.parser.get_http_version() == "1.1" else None
        )

    def _take_asgi(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _land(self, call: Call) -> None:
        """Answer a request of the fast lane."""
        if not isinstance(call, LaneCall) or self._lane is None:
            raise TypeError("the call is not of the fast lane")
        if not self.transport.is_closing():
            self.transport.write(self._lane.encoded(call, self.server_state.default_headers))
        call.response_complete = True
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _begin_again_without_upgrade(self) -> None:
        """The same head once more, for a new parser, without what made the old one stop before the body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (method, self.url, version)]
        head += [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join(head) + b"\r\n")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def _look_s(self) -> float:
        return min(self._request_s, self.timeout_keep_alive)

    def _look(self) -> None:
        """End a connection that has been idle, or whose request has been arriving, for too long; else look again."""
        now_s, since_s = self.loop.time(), self._arriving_since_s
        left_s = self._look_s if since_s is None else min(self._look_s, since_s + self._request_s - now_s)
        if self._idle_since_s is not None and since_s is None:
            left_s = min(self._look_s, self._idle_since_s + self.timeout_keep_alive - now_s)
        running = self._running
        if running is not None and not running.response_complete and not running.more_body:
            left_s = self._look_s  # a whole request before it has yet to get its answer
        if left_s > 0:
            self._watch = self.loop.call_later(left_s, self._look)
        else:
            self._abandon()
            self.transport.close()

    def _leave(self) -> None:
        if self._is_free:
            self.transport.close()

    def _refuse(self) -> None:
        """End the connection over bytes that are no HTTP, once the whole requests before them have their answers."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            return
        is_alone = cycle is None or cycle.response_complete or (cycle is self._running and not cycle.response_started)
        self._abandon()
        if is_alone and not self.transport.is_closing():
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(_NOT_HTTP)
            self.transport.write(STATUS_LINE[400] + head + _NOT_HTTP)
            self.connections.discard(self)
            self._watch.cancel()
            self.transport.set_protocol(Farewell(self.transport))
        else:
            self.transport.close()

    def _abandon(self) -> None:
        """Let the requests under way come to nothing: nobody is there to take their answers."""
        queued = [cycle for cycle, _ in self.pipeline]
        for cycle in (self._running, self.cycle, *queued):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                if isinstance(cycle, LaneCall):
                    if self._lane is not None:
                        self._lane.abandon(cycle)
                else:
                    cycle.message_event.set()
                    if CALL in cycle.scope:
                        cycle.scope[CALL].hang_up()  # type: ignore[literal-required]  # our own key
        self.pipeline.clear()
