"""Callers that never retry, and what a server with several workers shows of itself: for tests of faults."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from rows import IRIS_ROW
from running import Running, request

DEADLINE_S = 60.0
IRIS = "/v1/models/iris/predict"


def wait_for(holds: Callable[[], object], what: str = "the condition", deadline_s: float = DEADLINE_S) -> None:
    """Return once `holds()` is true. Raises AssertionError after the deadline."""
    until_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < until_s, f"{what} did not come true in {deadline_s:.0f} s"
        time.sleep(0.02)


def workers_of(server: Running) -> list[int]:
    """The process ids of the workers that take calls."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"penstock.workers.worker\x00" in _command_of(pid)]


def _command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone since
        return b""


def sockets_of(pid: int) -> int:
    """How many sockets a process has open."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            found += str(entry.readlink()).startswith("socket:")
    return found


def memory_bytes(pid: int, line: str = "VmRSS") -> int:
    """The memory of a process; `VmHWM` is the most that it ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    [found] = [each.split()[1] for each in status.splitlines() if each.startswith(f"{line}:")]
    return int(found) * 1024


def summed(server: Running, name: str, **labels: str) -> float:
    """The sum of a metric's samples with `labels`, as `/metrics` shows them."""
    with server.client() as client:
        families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


class Told(msgspec.Struct):
    """One answer: its status, whether it was the connection's last, and its body."""

    status: int
    is_last: bool
    body: bytes


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> Told:
    """Send one request and read its answer. Raises OSError or IncompleteReadError when none came."""
    writer.write(data)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    size_bytes = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(size_bytes)
    return Told(int(head.split(b" ", 2)[1]), b"connection: close" in head, body)


class Load:
    """Callers that send one request at a time on kept connections, from a thread of its own, and never retry.

    A caller whose connection ended begins another, unless `is_once`; then it stops when told `Connection: close`.
    `statuses` counts the answers; `answered` has their request ids, empty where pages are asked; `last` counts those
    that ended their connection; `lost` says of each request that was sent what came instead of an answer; `refused`
    counts connections that were not made.
    """

    def __init__(self, server: Running, callers: int, data: bytes, *, is_once: bool = False) -> None:
        self.statuses: Counter[int] = Counter()
        self.answered: list[str] = []
        self.lost: list[str] = []
        self.last = 0
        self.refused = 0
        self._port = server.port
        self._callers, self._data, self._is_once = callers, data, is_once
        self._is_over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self.join()

    def join(self) -> None:
        """Wait until every caller has stopped."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def wait_for(self, more: int) -> None:
        """Wait for `more` answers than there are now."""
        seen = len(self.answered)
        wait_for(lambda: len(self.answered) >= seen + more, f"{more} more answers")

    async def _all(self) -> None:
        await asyncio.gather(*(self._call() for _ in range(self._callers)))

    async def _call(self) -> None:
        while not self._is_over:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                self.refused += 1
                if self._is_once:
                    return
                await asyncio.sleep(0.01)
                continue
            try:
                await self._use(reader, writer)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
            finally:
                writer.close()
            if self._is_once:
                return

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._is_over:
            told = await ask(reader, writer, self._data)
            self.statuses[told.status] += 1
            body = msgspec.json.decode(told.body)
            self.answered.append(body.get("request_id", "") if told.status == 200 else body["error"]["request_id"])
            if told.is_last:
                self.last += 1
                return


def iris_call() -> bytes:
    """One prediction of `iris`."""
    return request(IRIS, msgspec.json.encode({"instances": [IRIS_ROW]}))
