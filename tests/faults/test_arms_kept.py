"""Callers keep their arm over HTTP: through two workers, one of them killed, and weights that a person changes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from governed import ADA, Governed, governed
from loads import wait_for, workers_of
from penstock.assignment import Arm, Experiment
from running import Running
from variants import variant

_LOG = logging.getLogger(__name__)
KEYS = [f"customer-{number}" for number in range(int(os.environ.get("PENSTOCK_TEST_KEYS", "2000")))]
"""`make soak-arms` asks with 100,000."""

CALLERS = 8
ATTEMPTS = 20
BODY = msgspec.json.encode({"instances": [{"x": 1.0}]})
HEAD = b"POST /v1/models/amount/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Penstock-Key: %b\r\n"


class Callers:
    """Ask once for each key, on a few kept connections, in a thread; `arms` has what the replies' headers said.

    A connection whose worker was killed begins anew, and asks again.
    """

    def __init__(self, server: Running, keys: Sequence[str]) -> None:
        self.arms: dict[str, str] = {}
        self._port = server.port
        self._keys = iter(keys)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()

    def asked(self) -> dict[str, str]:
        """The arm of each key, once all were asked."""
        self._thread.join()
        return self.arms

    async def _all(self) -> None:
        await asyncio.gather(*(self._call() for _ in range(CALLERS)))

    async def _call(self) -> None:
        connection = None
        for key in self._keys:
            request = HEAD % key.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
            for _ in range(ATTEMPTS):
                try:
                    connection = connection or await asyncio.open_connection("127.0.0.1", self._port)
                    self.arms[key] = await _arm(*connection, request)
                    break
                except (OSError, asyncio.IncompleteReadError):
                    if connection is not None:
                        connection[1].close()
                    connection = None
        if connection is not None:
            connection[1].close()


async def _arm(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> str:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    lines = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
    await reader.readexactly(int(lines[b"content-length"]))
    return lines[b"x-penstock-arm"].decode()


@pytest.fixture(scope="module")
def plane(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    """Three versions of `amount` on two workers."""
    out = tmp_path_factory.mktemp("arms")
    with governed(tmp_path_factory.mktemp("home"), audit__durability="write") as made:
        for path in (bundles["amount"], variant(bundles["amount"], out, 1), variant(bundles["amount"], out, 2)):
            made.publish(path)
        wait_for(lambda: made.served("amount") == 1, "the champion")
        yield made


def experiment(id: str, blue: int, green: int) -> Experiment:
    return Experiment(
        id=id, arms=(Arm(name="blue", version=2, weight=blue), Arm(name="green", version=3, weight=green))
    )


def weigh(plane: Governed, wanted: Experiment | None) -> None:
    began_s = time.monotonic()
    answer = plane.operations.weigh("amount", wanted, ADA)
    assert ([], []) == (answer.waits_for, answer.unserved)
    _LOG.info("weights on all workers after %.0f ms", (time.monotonic() - began_s) * 1e3)


def moves(before: dict[str, str], after: dict[str, str]) -> set[tuple[str, str]]:
    assert before.keys() == after.keys() == set(KEYS)
    return {(before[key], after[key]) for key in KEYS if before[key] != after[key]}


def misfit(arms: dict[str, str], **weights: int) -> float:
    """chi² of the arms' counts."""
    weights["champion"] = 10_000 - sum(weights.values())
    counts = Counter(arms.values())
    _LOG.info("of %d keys: %s", len(arms), dict(counts))
    return sum(
        (counts[name] - len(arms) * weight / 10_000) ** 2 / (len(arms) * weight / 10_000)
        for name, weight in weights.items()
    )


def test_callers_keep_their_arm(plane: Governed) -> None:
    """Nobody changes arm but from the champion to the arm that is raised, or back from one that is lowered; a killed
    worker changes nothing. Shares are within sampling error: chi² on 2 degrees of freedom (13.8 is p = 0.001).
    """
    weigh(plane, experiment("fees", 1000, 1000))
    first = Callers(plane.server, KEYS).asked()
    assert misfit(first, blue=1000, green=1000) < 13.8

    again = Callers(plane.server, KEYS)
    wait_for(lambda: len(again.arms) > len(KEYS) // 2, "half of the keys")
    os.kill(workers_of(plane.server)[0], signal.SIGKILL)
    assert set() == moves(first, again.asked())

    wait_for(lambda: len(workers_of(plane.server)) == 2, "the next worker")
    during = Callers(plane.server, KEYS)
    wait_for(lambda: len(during.arms) > len(KEYS) // 2, "half of the keys")
    weigh(plane, experiment("fees", 4000, 1000))
    assert {("champion", "blue")} == moves(first, during.asked())
    raised = Callers(plane.server, KEYS).asked()
    assert {("champion", "blue")} == moves(first, raised)
    assert misfit(raised, blue=4000, green=1000) < 13.8

    weigh(plane, experiment("fees", 4000, 0))
    lowered = Callers(plane.server, KEYS).asked()
    assert {("green", "champion")} == moves(raised, lowered)

    weigh(plane, experiment("colours", 4000, 0))
    other = Callers(plane.server, KEYS).asked()
    pairs = Counter((lowered[key], other[key]) for key in KEYS)
    share = {"blue": 0.4, "champion": 0.6}
    expected = {(one, two): len(KEYS) * share[one] * share[two] for one in share for two in share}
    assert sum((pairs[pair] - count) ** 2 / count for pair, count in expected.items()) < 16.3, pairs  # 3 degrees

    weigh(plane, None)
    assert [None] * 2 == [plane.model("amount").experiment, plane.operations.history("amount").events[-1].change.after]
