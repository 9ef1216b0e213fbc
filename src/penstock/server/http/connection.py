"""uvicorn's HTTP/1.1 connection, mended where it leaves a caller without an answer.

A request that offers to upgrade (Java's own HTTP client offers h2c with each first request) is answered as HTTP/1.1,
its body included, and the connection goes on: RFC 9110, 7.8, lets a server ignore the offer. uvicorn's parser stops
before the body instead. Bytes that are no HTTP get the error body of our own API.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from penstock.errors import Unreadable
from penstock.server.failures import error_body

_NOT_HTTP = error_body(Unreadable("the bytes are not an HTTP/1.1 request"), None)


class Http1(HttpToolsProtocol):
    """One connection; made by uvicorn."""

    def data_received(self, data: bytes) -> None:
        """Parse what has come and start what is asked."""
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = rest[upgrade.args[0] :]
                    self._begin_again_without_upgrade()
        except httptools.HttpParserError:
            self._refuse()

    def on_headers_complete(self) -> None:
        """Start the request, unless it is to begin again."""
        if not self._is_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the body, unless the parser has not looked at it yet."""
        if not self._is_upgrade():
            super().on_message_complete()

    def _is_upgrade(self) -> bool:
        # CONNECT asks for a tunnel: that is refused as it is.
        return bool(self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT")

    def _begin_again_without_upgrade(self) -> None:
        """The same head once more, for a new parser, without what made the old one stop before the body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (method, self.url, version)]
        head += [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"".join(head) + b"\r\n")

    def _refuse(self) -> None:
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(_NOT_HTTP)
        self.transport.write(STATUS_LINE[400] + head + _NOT_HTTP)
        self.transport.close()
