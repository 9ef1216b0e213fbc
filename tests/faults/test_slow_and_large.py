"""Slow callers, bodies that are packed, cut or of another length than said: the others are served meanwhile."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from loads import DEADLINE_S, IRIS, Load, iris_call, memory_bytes, sockets_of, wait_for, workers_of
from rows import IRIS_ROW
from running import Running, read_answer, request, running

SLOW = 200
DEADLINE_MS = 1500
BOMBS_BYTES = (60 << 20, 200 << 20)  # the first, packed, is small enough for the lane
GROWTH_BYTES = 24 << 20
CALL = iris_call()
BODY = json.dumps({"instances": [IRIS_ROW]}).encode()


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def server(
    request: pytest.FixtureRequest, bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    limits = {"server__deadline_ms": DEADLINE_MS, "server__keep_alive_s": 30, "server__fast_lane": request.param}
    with running([bundles["iris"]], tmp_path_factory.mktemp("slow"), "--workers", "2", **limits) as started:
        yield started


def has_ended(connection: socket.socket) -> bool:
    """Whether the server has ended a connection on which it never answers."""
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_slow_callers(server: Running) -> None:  # the first of its server
    """200 connections that send a byte now and then, of a head or of a body, are ended after the deadline.

    Until then and afterwards everybody else is answered; what never became whole leaves no record.
    """
    workers = workers_of(server)
    wait_for(lambda: len({sockets_of(pid) for pid in workers}) == 1)
    before = list(map(sockets_of, workers))
    head = CALL[: CALL.index(b"\r\n\r\n")]
    begun = [CALL[: len(head) // 2], CALL[: len(head) + 20]]
    slow = [server.connect() for _ in range(SLOW)]
    with Load(server, 4, CALL) as load:
        for place, connection in enumerate(slow):
            connection.sendall(begun[place % 2])
            connection.setblocking(False)
        is_open = dict.fromkeys(slow, True)
        for drop in range(1000):
            for place, connection in enumerate(slow):
                if is_open[connection]:
                    part = begun[place % 2]
                    rest = CALL[len(part) + drop : len(part) + drop + 1] if drop < 40 else b""
                    try:
                        connection.sendall(rest)
                    except OSError:
                        is_open[connection] = False
                    else:
                        is_open[connection] = not has_ended(connection)
            load.wait_for(20)
            if not any(is_open.values()):
                break
        load.wait_for(100)
    assert [] == [connection for connection, still in is_open.items() if still]
    for connection in slow:
        connection.close()
    assert ([], {200}, 0) == (load.lost, set(load.statuses), load.refused)
    assert set(load.answered) == {record.request_id for record in server.records()}
    wait_for(lambda: list(map(sockets_of, workers)) == before, "no connection is left")
    assert not any(word in server.text for word in ("Traceback", "Exception"))


@pytest.mark.parametrize("blank_bytes", BOMBS_BYTES)
def test_a_packed_bomb(server: Running, blank_bytes: int) -> None:
    """A body that would unpack to a thousand times its size is refused, and takes no memory, however often it comes."""
    bomb = gzip.compress(b'{"instances":[' + b" " * blank_bytes)
    assert blank_bytes > 900 * len(bomb)
    workers = workers_of(server)
    with server.connect() as connection:
        connection.sendall(CALL)
        assert 200 == read_answer(connection).status
    before = [memory_bytes(pid, "VmHWM") for pid in workers]
    for _ in range(20):
        with server.connect() as connection:
            connection.sendall(request(IRIS, bomb, headers={"Content-Encoding": "gzip"}))
            assert read_answer(connection).status in (400, 413, 415, 422)
    for pid, used_bytes in zip(workers, before, strict=True):
        assert memory_bytes(pid, "VmHWM") < used_bytes + GROWTH_BYTES


def test_a_length_that_is_too_small(server: Running) -> None:
    """A body that goes on after its length is read up to there: 400; what follows is no HTTP, so that is the end."""
    with server.connect() as connection:
        connection.sendall(request(IRIS, BODY, headers={"Content-Length": str(len(BODY) - 30)}))
        answer = read_answer(connection)
        assert b"" == connection.recv(1)
    assert (400, "unreadable") == (answer.status, answer.json["error"]["code"])


def test_a_length_that_is_too_large(server: Running) -> None:
    """A body that stops short of its length is waited for until the deadline, then its connection ends, unasked."""
    before = len(server.records())
    with server.connect() as connection:
        connection.settimeout(DEADLINE_S)
        connection.sendall(request(IRIS, BODY, headers={"Content-Length": str(len(BODY) + 30)}))
        assert b"" == connection.recv(1)
    with server.connect() as connection:
        connection.sendall(CALL)
        assert 200 == read_answer(connection).status
    assert before + 1 == len(server.records())


def test_a_larger_length_and_the_next_request(server: Running) -> None:
    """What follows a short body counts as its rest: the two become one unreadable body, never a wrong answer."""
    left = bytearray()
    with server.connect() as connection:
        connection.sendall(request(IRIS, BODY, headers={"Content-Length": str(len(BODY) + len(CALL))}) + CALL * 2)
        statuses = [read_answer(connection, left).status for _ in range(2)]
    assert [400, 200] == statuses
