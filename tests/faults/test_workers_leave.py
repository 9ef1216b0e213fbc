"""Two workers told to stop, to be replaced, or killed, under load by callers that never retry."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from loads import Load, iris_call, sockets_of, summed, wait_for, workers_of
from penstock.audit import verify
from running import STOP_S, Running, read_answer, records, request, running, segments

CALLERS = 16
BACK_S = 20.0
WAITING = 150  # more than the supervisor takes at once
CALL = iris_call()


@pytest.fixture
def server(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Running]:
    with running([bundles["iris"]], tmp_path, "--workers", "2") as started:
        yield started


def assert_recorded(load: Load, home: Path) -> None:
    """Each answer is in the log once, the log holds nothing else, and every segment is whole."""
    assert Counter(load.answered) == Counter(record.request_id for record in records(home))
    assert [] == [path for path in segments(home) if not verify(path).is_intact]


def test_stopping_under_load(server: Running) -> None:
    """SIGTERM: on each of 16 kept connections every request sent is answered, the last with `Connection: close`."""
    with Load(server, CALLERS, CALL, is_once=True) as load:
        load.wait_for(500)
        server.process.terminate()
        load.join()
        assert 0 == server.process.wait(STOP_S)
    assert ([], {200}, 0) == (load.lost, set(load.statuses), load.refused)
    assert CALLERS == load.last
    assert_recorded(load, server.home)
    assert "Traceback" not in server.text


def test_connections_that_wait_are_answered(server: Running) -> None:
    """What was sent on connections that the supervisor has yet to accept when it is told to stop is answered."""
    server.process.send_signal(signal.SIGSTOP)
    waiting = [server.connect() for _ in range(WAITING)]
    for connection in waiting:
        connection.sendall(CALL)
    server.process.terminate()
    server.process.send_signal(signal.SIGCONT)
    try:
        assert [200] * WAITING == [read_answer(connection).status for connection in waiting]
    finally:
        for connection in waiting:
            connection.close()
    assert 0 == server.process.wait(STOP_S)


def test_replacing_under_load(server: Running) -> None:
    """SIGHUP: each request of 16 callers, who connect anew when told to, is answered; none is refused."""
    before = set(workers_of(server))
    with Load(server, CALLERS, CALL) as load:
        load.wait_for(300)
        with Load(server, CALLERS, request("/health/ready", method="GET")) as ready:
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: len(now := set(workers_of(server))) == 2 and not before & now)
            load.wait_for(300)
            ready.wait_for(300)
    for asked in (load, ready):
        assert ([], {200}, 0) == (asked.lost, set(asked.statuses), asked.refused)
    assert_recorded(load, server.home)
    assert 0.0 == summed(server, "penstock_worker_restarts_total")
    assert "Traceback" not in server.text


def test_killing_a_worker_under_load(server: Running) -> None:
    """kill -9 of a worker: at most the one request of each of its connections is lost, and another comes soon.

    The log has every answer that a caller saw; the sums on `/metrics` are those of the log, the dead worker's included.
    """
    before = {pid: sockets_of(pid) for pid in workers_of(server)}
    killed = min(before)
    with Load(server, CALLERS, CALL) as load:
        load.wait_for(500)
        wait_for(lambda: all(sockets_of(pid) - count == CALLERS / 2 for pid, count in before.items()), "all are there")
        held = sockets_of(killed) - before[killed]
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: len(now := workers_of(server)) == 2 and killed not in now, "another worker", BACK_S)
        wait_for(lambda: len(segments(server.home)) == 3)
        load.wait_for(500)
    assert 0 < held < CALLERS
    assert len(load.lost) <= held
    assert ({200}, 0) == (set(load.statuses), load.refused)
    recorded = Counter(record.request_id for record in server.records())
    assert {1} == {recorded[request_id] for request_id in load.answered}
    assert len(recorded) <= len(load.answered) + len(load.lost)
    assert 1.0 == summed(server, "penstock_worker_restarts_total")
    wait_for(lambda: summed(server, "penstock_audit_records_total") == len(recorded), "the sum of records")
    assert len(recorded) == summed(server, "model_requests_total", status="success")


def test_killing_the_supervisor(bundles: dict[str, Path], tmp_path: Path) -> None:
    """When the supervisor is killed, its workers answer what they were asked and leave; the port is free at once."""
    with running([bundles["iris"]], tmp_path, "--workers", "2") as server:
        workers = workers_of(server)
        with Load(server, CALLERS, CALL, is_once=True) as load:
            load.wait_for(500)
            server.process.kill()
            load.join()
        server.process.wait(STOP_S)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers leave")
        assert ([], {200}, CALLERS) == (load.lost, set(load.statuses), load.last)
    assert_recorded(load, tmp_path)
    with running([bundles["iris"]], tmp_path, "--port", str(server.port)) as again, again.connect() as connection:
        assert server.port == again.port
        connection.sendall(CALL)
        assert 200 == read_answer(connection).status
