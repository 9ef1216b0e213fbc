"""Several workers behind one port: balance, restarts that lose nothing, deaths that cost only what was under way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.audit import verify
from running import Running, read_answer, request, running

PATH = "/v1/models/iris/predict"
DEADLINE_S = 30.0


@pytest.fixture
def server(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Running]:
    with running([bundles["iris"]], tmp_path, "--workers", "2") as started:
        wait_for(lambda: len(workers_of(started)) == 2 and len(segments_of(started)) == 2)
        yield started


def wait_for(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def workers_of(server: Running) -> list[int]:
    """The process ids of the workers."""
    found = subprocess.run(["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


def segments_of(server: Running) -> list[Path]:
    return sorted((server.home / "audit").glob("worker-*/*.jsonl"))


def ask(connection: socket.socket, body: bytes) -> tuple[int, str]:
    connection.sendall(request(PATH, body))
    answer = read_answer(connection)
    return answer.status, answer.json["request_id"]


def counted(server: Running, name: str) -> float:
    with server.client() as client:
        text = client.get("/metrics").text
    return sum(
        sample.value for family in text_string_to_metric_families(text) for sample in family.samples
        if sample.name == name
    )  # fmt: skip


class Load:
    """Callers that send one request at a time on kept connections and do not retry."""

    def __init__(self, server: Running, callers: int, body: bytes) -> None:
        self.answered: list[str] = []
        self.broken: list[str] = []
        self._is_over = threading.Event()
        self._server, self._body = server, body
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def _call(self) -> None:
        while not self._is_over.is_set():
            try:
                with self._server.connect() as connection:
                    self._use(connection)
            except OSError as error:
                self.broken.append(repr(error))

    def _use(self, connection: socket.socket) -> None:
        while not self._is_over.is_set():
            connection.sendall(request(PATH, self._body))
            answer = read_answer(connection)
            assert 200 == answer.status
            self.answered.append(answer.json["request_id"])
            if answer.headers.get("connection") == "close":
                return


@pytest.fixture
def body(iris_row: dict[str, float]) -> bytes:
    return json.dumps({"instances": [iris_row]}).encode()


def test_sixteen_connections_are_shared_evenly(server: Running, body: bytes) -> None:
    """Kept connections go to the worker with the fewest: eight and eight, not as a hash falls."""
    connections = [server.connect() for _ in range(16)]
    try:
        asked = [ask(connection, body)[1] for connection in connections for _ in range(3)]
    finally:
        for connection in connections:
            connection.close()
    wait_for(lambda: len(server.records()) == len(asked))
    by_worker = Counter(path.parent.name for path in segments_of(server) for _ in range(verify(path).records))
    assert {"worker-0": 24, "worker-1": 24} == by_worker


def test_a_rolling_restart_loses_nothing(server: Running, body: bytes) -> None:
    """SIGHUP replaces the workers one by one under load: every request is answered, every answer recorded once."""
    before = workers_of(server)
    with Load(server, 8, body) as load:
        wait_for(lambda: len(load.answered) > 100)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: not set(before) & set(workers_of(server)))
        seen = len(load.answered)
        wait_for(lambda: len(load.answered) > seen + 100)
    assert [] == load.broken
    recorded = Counter(record.request_id for record in server.records())
    assert Counter(load.answered) == recorded
    assert 2 == len(workers_of(server))


def test_a_killed_worker_costs_only_what_it_was_computing(server: Running, body: bytes) -> None:
    """kill -9 of a worker: the other goes on, a new one comes, and every received answer is in the log once."""
    with Load(server, 8, body) as load:
        wait_for(lambda: len(load.answered) > 100)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        wait_for(lambda: len(segments_of(server)) == 3)
        seen = len(load.answered)
        wait_for(lambda: len(load.answered) > seen + 100)
    assert len(load.broken) <= 8
    recorded = Counter(record.request_id for record in server.records())
    assert {1} == {recorded[request_id] for request_id in load.answered}
    assert 1.0 == counted(server, "penstock_worker_restarts_total")


def test_metrics_are_the_sums_of_all_workers(server: Running, body: bytes) -> None:
    """The page shows what all workers counted, whichever of them is asked, dead ones' included."""
    for _ in range(10):
        with server.connect() as connection:
            ask(connection, body)
    wait_for(lambda: counted(server, "model_requests_total") == 10)
    os.kill(workers_of(server)[0], signal.SIGKILL)
    wait_for(lambda: len(workers_of(server)) == 2 and len(segments_of(server)) == 3)
    assert 10.0 == counted(server, "model_requests_total")
    assert 10.0 == counted(server, "penstock_audit_records_total")


def test_stopping_answers_what_is_under_way(server: Running, body: bytes) -> None:
    """SIGTERM under load: no request that was sent stays without its answer, and no process is left."""
    workers = workers_of(server)
    with Load(server, 8, body) as load:
        wait_for(lambda: len(load.answered) > 100)
        assert 0 == server.stop()
    assert [] == [error for error in load.broken if "refused" not in error.lower()]
    assert [] == [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert all(verify(path).is_intact for path in segments_of(server))


def test_workers_end_with_their_supervisor(server: Running) -> None:
    """When the supervisor is killed its workers leave by themselves."""
    workers = workers_of(server)
    server.process.kill()
    server.process.wait(DEADLINE_S)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_bundle_that_cannot_be_served_ends_the_start(bundles: dict[str, Path], tmp_path: Path) -> None:
    """What a worker cannot load is told by the supervisor, once, and the command exits 1."""
    touched = tmp_path / "touched"
    touched.mkdir()
    for file in bundles["iris"].iterdir():
        (touched / file.name).write_bytes(file.read_bytes())
    (touched / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(AssertionError, match="model.onnx"), running([touched], tmp_path, "--workers", "2"):
        pass
