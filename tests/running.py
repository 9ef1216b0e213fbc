"""HTTP by hand, beside the real `penstock serve` process of `penstock.testing`."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from penstock.testing.server import STOP_S, Running, command, environment, records, running, segments

__all__ = [
    "STOP_S",
    "Answer",
    "Running",
    "command",
    "environment",
    "read_answer",
    "records",
    "request",
    "running",
    "segments",
]


class Answer(msgspec.Struct):
    """One HTTP response, read by hand."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def request(path: str, body: bytes = b"", *, method: str = "POST", headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one request."""
    lines = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def read_answer(connection: socket.socket, left: bytearray | None = None) -> Answer:
    """The next response on a connection; what came beyond it stays in `left`. Raises ConnectionError at the end."""
    data = bytearray() if left is None else left
    while b"\r\n\r\n" not in data:
        _receive(connection, data)
    head = bytes(data).partition(b"\r\n\r\n")[0]
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    code = int(status.split(" ")[1])
    size_bytes = int(headers.get("content-length", 0))
    while len(data) < len(head) + 4 + size_bytes:
        _receive(connection, data)
    body = bytes(data[len(head) + 4 : len(head) + 4 + size_bytes])
    del data[: len(head) + 4 + size_bytes]
    return Answer(code, headers, body)


def _receive(connection: socket.socket, data: bytearray) -> None:
    part = connection.recv(65536)
    if not part:
        raise ConnectionError(f"the server closed the connection after {bytes(data[:200])!r}")
    data += part
