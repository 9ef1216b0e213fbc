"""Too many connections: those above the limit get a refusal for whatever they ask, and end.

They are answered only once they have sent something: a connection that is closed with bytes unread is reset, and the
refusal might be lost with it.
"""

from __future__ import annotations

import asyncio
from typing import Final

from penstock.errors import Overloaded
from penstock.server.failures import HTTP_STATUS, RETRY_AFTER_S, error_body
from penstock.telemetry import Registry

_PATIENCE_S: Final = 1.0
_LEAVE_S: Final = 0.25
_BODY: Final = error_body(
    Overloaded("the server has as many connections as it may (limits.connections): try again"), None
)
_REFUSAL: Final = (
    b"HTTP/1.1 %d Service Unavailable\r\ncontent-type: application/json\r\nretry-after: %d\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b"
) % (HTTP_STATUS[Overloaded], RETRY_AFTER_S, len(_BODY), _BODY)


class Door:
    """Lets `most` connections in. One per worker, on its event loop."""

    def __init__(self, most: int, registry: Registry | None = None) -> None:
        self._most = most
        registry = registry if registry is not None else Registry()
        self._refused = registry.counter("penstock_connections_refused_total", "Connections above the limit.").child()

    def is_full(self, connections: int) -> bool:
        """Whether that many, the new one included, are too many."""
        return connections > self._most

    def turned_away(self, transport: asyncio.Transport) -> TurnedAway:
        """What speaks on a connection that is not let in."""
        self._refused.inc()
        return TurnedAway(transport)


class TurnedAway(asyncio.Protocol):
    """A connection above the limit: one refusal, no parsing, no record, gone within a second."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_told = False
        self._end = asyncio.get_running_loop().call_later(_PATIENCE_S, transport.close)

    def data_received(self, data: bytes) -> None:
        """Refuse, once; the rest of what is sent is read for a moment, so that the refusal arrives."""
        if self._is_told:
            return
        self._is_told = True
        self._transport.write(_REFUSAL)
        self._end.cancel()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._end = asyncio.get_running_loop().call_later(_LEAVE_S, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._end.cancel()


class Farewell(asyncio.Protocol):
    """A connection that has got its last answer: what it still sends is read for a moment, so that this arrives."""

    def __init__(self, transport: asyncio.Transport) -> None:
        if transport.can_write_eof():
            transport.write_eof()
        self._end = asyncio.get_running_loop().call_later(_PATIENCE_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._end.cancel()
