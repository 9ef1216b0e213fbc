"""Receivers of webhooks: a little HTTP server that takes events, refuses them, hangs, sends on, and comes back."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class Received(msgspec.Struct, frozen=True):
    """One request that a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> Any:
        """The CloudEvent."""
        return msgspec.json.decode(self.body)


class Receiver:
    """`answer` is the status of the next answers; None: it hangs until `let_go`. Events of revisions that it `refuses`
    get 422. `got` has every request, `taken` those that were answered well.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.answer: int | None = 200
        self.more: dict[str, str] = {}
        self.refuses: set[int] = set()
        self.got: list[Received] = []
        self.taken: list[Received] = []
        self.let_go = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def revisions(self) -> list[int]:
        """Of the events that it has taken, in the order in which they came."""
        return [received.event["data"]["revision"] for received in self.taken]


@contextlib.contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """A receiver that listens while the block runs."""

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size_bytes = int(self.headers["content-length"])
            received = Received(self.path, {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(size_bytes))
            found.got.append(received)
            answer = found.answer
            if answer is None:
                found.let_go.wait(60)
                return
            if received.event["data"]["revision"] in found.refuses:
                answer = 422
            if answer // 100 == 2:
                found.taken.append(received)
            self.send_response(answer)
            for name, value in {**found.more, "content-length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", port), Answers) as server:
        found = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            found.let_go.set()
            server.shutdown()
            thread.join(20)


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
