"""Where the server listens: who can reach the address, and the socket on it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from penstock.errors import SettingsError
from penstock.settings import ServerSettings

BACKLOG: Final = 2048


def require_safe_address(server: ServerSettings) -> None:
    """Raise SettingsError for an address off loopback, unless `insecure` is said: there are no keys yet."""
    if server.insecure or is_loopback(server.host):
        return
    raise SettingsError(
        f"server.host is {server.host}, which others can reach, and there is no authentication: "
        f"listen on 127.0.0.1 behind a proxy that authenticates, or say --insecure"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(server: ServerSettings) -> socket.socket:
    """A socket that listens where the settings say. Raises SettingsError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {server.host}:{server.port}: {error.strerror}; choose another with --port"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of what answers on `listener`."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
