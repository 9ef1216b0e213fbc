"""The edge of the API: who may ask at all, and what is said when a bug of ours is met.

A web page that a person at this machine looks at may send requests to 127.0.0.1, and with a name of its own that it
lets point there (DNS rebinding) may read the answers as well. Host and Origin tell both apart from a client.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, MutableMapping
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.controller.failures import control_error_body, status_of
from penstock.errors import Forbidden

_LOG = logging.getLogger("penstock")

_SHOWN: Final = 80


class Guard:
    """ASGI middleware around the whole API. `hosts` are names beyond those of loopback."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in hosts) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before any of its body is read."""
        refusal = self.refusal(scope["headers"]) if scope["type"] == "http" else None
        if refusal is not None:
            await _tell(refusal, send)
            return
        is_begun = False

        async def sending(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # the edge of a request: the next one may go well, and on the same connection
            if is_begun:
                raise
            _LOG.exception("the control API failed")
            await _tell(error, send)

    def refusal(self, headers: Collection[tuple[bytes, bytes]]) -> Forbidden | None:
        """Why a request with these headers is refused; None if it is not."""
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        if len(hosts) != 1 or not self._is_known(hosts[0]):
            said = ", ".join(hosts)[:_SHOWN] or "nothing"
            return Forbidden(
                f"Expected a name of loopback or one of control.hosts, got {said!r} - at the header Host. "
                "Ask by 127.0.0.1, or add the name to control.hosts"
            )
        own = hosts[0].lower()
        if any(origin.lower() not in (f"http://{own}", f"https://{own}") for origin in origins):
            return Forbidden(
                f"Expected a page of this server, got {', '.join(origins)[:_SHOWN]!r} - at the header Origin. "
                "Pages of other origins may not use the control API"
            )
        return None

    def _is_known(self, host: str) -> bool:
        name = name_of(host)
        if name in self._hosts:
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def name_of(host: str) -> str:
    """The name in a Host header (RFC 9110, 7.2), in lower case and without port, brackets and last dot."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name.lower() if bracket and _is_port(rest) else ""
    name, colon, port = host.partition(":")
    return name.lower().removesuffix(".") if _is_port(colon + port) else ""


def _is_port(text: str) -> bool:
    return not text or (text.startswith(":") and (text[1:].isdecimal() or text == ":"))


async def _tell(error: Exception, send: Send) -> None:
    body = control_error_body(error)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    start: MutableMapping[str, Any] = {
        "type": "http.response.start",
        "status": status_of(error),
        "headers": headers,
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
