"""The open loop: requests leave at times fixed beforehand, whether or not the server keeps up.

A request's latency counts from the time at which it was due, so a server that stalls cannot hide it by being asked less
(wrk2's rule). It is not wrk2, which is in no registry that Debian, npm or PyPI install from; and `h2load --rps` starts
all its connections in step: at 64 connections x 100/s, 77 % of the milliseconds were empty and others held 64 requests
(docs/performance.md). One thread, which polls without sleeping, on the client's core.
"""

from __future__ import annotations

import gc
import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from typing import Literal

import msgspec

from processes import CLIENT_CORE

Pacing = Literal["even", "poisson"]


class Order(msgspec.Struct, frozen=True):
    """What to send: whole requests of HTTP/1.1, `rate` a second, on at most `connections` kept connections; every tenth
    one is `tenth`, where there is one.
    """

    port: int
    request: bytes
    rate: float
    seconds: float
    pacing: Pacing
    connections: int = 128
    seed: int = 0
    tenth: bytes = b""


class Paced(msgspec.Struct, frozen=True):
    """What came of it. `late_ms` is the client's own 99th percentile of lateness: from due to sent."""

    sent: int
    answered: int
    failed: int
    per_second: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    late_ms: float

    @property
    def ratio(self) -> float:
        """p99 in p50."""
        return self.p99_ms / self.p50_ms


def open_loop(order: Order) -> Paced:
    """Carry out `order` in a process of its own on the client's core. Blocks."""
    command = ["taskset", "-c", str(CLIENT_CORE), sys.executable, __file__]
    done = subprocess.run(command, input=msgspec.json.encode(order), capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the open loop failed: {done.stderr.decode()[-800:]}")
    return msgspec.json.decode(done.stdout, type=Paced)


def http_request(path: str, port: int, body: bytes, headers: dict[str, str]) -> bytes:
    """One request as bytes."""
    head = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*head, "", ""]).encode() + body


class Loop:
    """Connections, the requests under way on them, and what was measured. One use, one thread."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._due_s = _times(order)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._idle: deque[int] = deque()
        self._under_way: dict[int, float] = {}
        self._buffers: dict[int, bytes] = {}
        self._latencies_s: list[float] = []
        self._late_s: list[float] = []
        self._failed = 0
        for _ in range(order.connections):
            self._connect()

    def run(self) -> Paced:
        """Send and read until all is answered, or ten seconds after the last was due."""
        due_s, order = self._due_s, self._order
        now = time.perf_counter
        gc.disable()
        began_s, following, count = now() + 0.05, 0, len(due_s)
        give_up_s = began_s + due_s[-1] + 10
        while following < count or self._under_way:
            at_s = now()
            while following < count and began_s + due_s[following] <= at_s and self._idle:
                self._send(began_s + due_s[following])
                following += 1
            for number, _ in self._poll.poll(0):
                self._read(number)
            if at_s > give_up_s:
                break
        took_s = max(now() - began_s, order.seconds)
        return self._measured(count, took_s)

    def _send(self, due_s: float) -> None:
        number = self._idle.popleft()
        self._under_way[number] = due_s
        self._late_s.append(time.perf_counter() - due_s)
        is_tenth = self._order.tenth and len(self._late_s) % 10 == 0
        try:
            self._sockets[number].sendall(self._order.tenth if is_tenth else self._order.request)
        except OSError:
            self._lose(number)

    def _read(self, number: int) -> None:
        try:
            data = self._sockets[number].recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(number)
            return
        held = self._buffers.pop(number, b"") + data
        if not _is_whole(held):
            self._buffers[number] = held
            return
        due_s = self._under_way.pop(number, None)
        if due_s is None or not held.startswith(b"HTTP/1.1 200"):
            self._failed += 1
        else:
            self._latencies_s.append(time.perf_counter() - due_s)
        if b"onnection: close" in held[:512]:
            self._lose(number)
        else:
            self._idle.append(number)

    def _connect(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._order.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(connection.fileno(), select.EPOLLIN)
        connection.setblocking(False)
        self._sockets[connection.fileno()] = connection
        self._idle.append(connection.fileno())

    def _lose(self, number: int) -> None:
        """A connection ended: what was under way on it failed, and another one takes its place."""
        self._failed += self._under_way.pop(number, None) is not None
        self._buffers.pop(number, None)
        if number in self._idle:
            self._idle.remove(number)
        self._poll.unregister(number)
        self._sockets.pop(number).close()
        try:
            self._connect()
        except OSError:
            time.sleep(0.001)

    def _measured(self, sent: int, took_s: float) -> Paced:
        latencies, late = sorted(self._latencies_s) or [0.0], sorted(self._late_s) or [0.0]
        return Paced(
            sent=sent,
            answered=len(self._latencies_s),
            failed=sent - len(self._latencies_s),
            per_second=len(self._latencies_s) / took_s,
            p50_ms=latencies[len(latencies) // 2] * 1e3,
            p99_ms=latencies[int(len(latencies) * 0.99)] * 1e3,
            worst_ms=latencies[-1] * 1e3,
            late_ms=late[int(len(late) * 0.99)] * 1e3,
        )


def _times(order: Order) -> list[float]:
    """When each request is due, in seconds from the beginning."""
    count = max(1, int(order.rate * order.seconds))
    if order.pacing == "even":
        return [n / order.rate for n in range(count)]
    rng = random.Random(order.seed)
    at_s, found = 0.0, []
    for _ in range(count):
        at_s += rng.expovariate(order.rate)
        found.append(at_s)
    return found


def _is_whole(held: bytes) -> bool:
    """Whether a reply with a stated length has arrived in full."""
    head = held.find(b"\r\n\r\n")
    if head < 0:
        return False
    lower = held[:head].lower()
    at = lower.find(b"content-length:")
    if at < 0:
        return True
    return len(held) >= head + 4 + int(lower[at + 15 :].partition(b"\r\n")[0])


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(Loop(msgspec.json.decode(sys.stdin.buffer.read(), type=Order)).run()))
