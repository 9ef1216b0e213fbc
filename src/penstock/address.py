"""Where the server listens: who can reach the address, and the socket on it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from typing import Final

import msgspec

from penstock.errors import SettingsError
from penstock.settings import ControlSettings, ServerSettings, Settings

BACKLOG: Final = 2048


def require_safe_address(section: ServerSettings | ControlSettings) -> None:
    """Raise SettingsError for an address off loopback, unless `insecure` is said: there are no keys yet."""
    if section.insecure or is_loopback(section.host):
        return
    name, consent = _named(section), "--insecure" if isinstance(section, ServerSettings) else "control.insecure = true"
    raise SettingsError(
        f"{name}.host is {section.host}, which others can reach, and there is no authentication: "
        f"listen on 127.0.0.1 behind a proxy that authenticates, or say {consent}"
    )


def _named(section: ServerSettings | ControlSettings) -> str:
    return "server" if isinstance(section, ServerSettings) else "control"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(section: ServerSettings | ControlSettings) -> socket.socket:
    """A socket that listens where the settings say. Raises SettingsError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in section.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((section.host, section.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        flag = " (--port)" if isinstance(section, ServerSettings) else ""
        raise SettingsError(
            f"cannot listen on {section.host}:{section.port}: {error.strerror}; "
            f"choose another {_named(section)}.port{flag}"
        ) from error
    return listener


@contextlib.contextmanager
def reserved_grpc_port(settings: Settings) -> Iterator[Settings]:
    """The settings with the gRPC port that all workers bind, held for them while the block runs; as they are without.

    Raises SettingsError when it is taken: with SO_REUSEPORT two servers would share it without a word.
    """
    server = settings.server
    if server.grpc_port is None:
        yield settings
        return
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as alone, socket.socket(family, socket.SOCK_STREAM) as held:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            alone.bind((server.host, server.grpc_port))
            port = alone.getsockname()[1]
            alone.close()
            held.bind((server.host, port))  # bound and not listening, it gets no connections
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {server.host}:{server.grpc_port} for gRPC: {error.strerror}; "
                f"choose another server.grpc_port"
            ) from error
        yield msgspec.structs.replace(settings, server=msgspec.structs.replace(server, grpc_port=port))


def grpc_address(server: ServerSettings) -> str | None:
    """Where gRPC is answered, as its clients are told; None for nowhere."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return None if server.grpc_port is None else f"{host}:{server.grpc_port}"


def url_of(listener: socket.socket) -> str:
    """The URL of what answers on `listener`."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
