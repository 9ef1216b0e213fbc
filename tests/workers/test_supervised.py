"""Several workers behind one port: balance, sums, a start that fails. How they leave is in test_workers_leave.py."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from loads import summed, wait_for, workers_of
from penstock.audit import verify
from rows import IRIS_ROW
from running import Running, read_answer, request, running

PATH = "/v1/models/iris/predict"


@pytest.fixture
def server(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Running]:
    with running([bundles["iris"]], tmp_path, "--workers", "2") as started:
        wait_for(lambda: len(workers_of(started)) == 2 and len(segments_of(started)) == 2)
        yield started


def segments_of(server: Running) -> list[Path]:
    return sorted((server.home / "audit").glob("worker-*/*.jsonl"))


def ask(connection: socket.socket, body: bytes) -> tuple[int, str]:
    connection.sendall(request(PATH, body))
    answer = read_answer(connection)
    return answer.status, answer.json["request_id"]


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


def test_metrics_are_the_sums_of_all_workers(server: Running, body: bytes) -> None:
    """The page shows what all workers counted, whichever of them is asked, dead ones' included."""
    for _ in range(10):
        with server.connect() as connection:
            ask(connection, body)
    wait_for(lambda: summed(server, "model_requests_total") == 10)
    os.kill(workers_of(server)[0], signal.SIGKILL)
    wait_for(lambda: len(workers_of(server)) == 2 and len(segments_of(server)) == 3)
    assert 10.0 == summed(server, "model_requests_total")
    assert 10.0 == summed(server, "penstock_audit_records_total")


def test_a_bundle_that_cannot_be_served_ends_the_start(bundles: dict[str, Path], tmp_path: Path) -> None:
    """What a worker cannot load is told by the supervisor, once, and the command exits 1."""
    touched = tmp_path / "touched"
    touched.mkdir()
    for file in bundles["iris"].iterdir():
        (touched / file.name).write_bytes(file.read_bytes())
    (touched / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(AssertionError, match="model.onnx"), running([touched], tmp_path, "--workers", "2"):
        pass


def test_workers_that_die_at_the_start_end_it(bundles: dict[str, Path], tmp_path: Path) -> None:
    """When a worker dies before it is ready, of a library that cannot be imported, say, the command tells so and ends;
    it does not try for ever.
    """
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "onnxruntime.py").write_text("raise ImportError('no such GLIBC')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(broken))
        with pytest.raises(AssertionError) as told, running([bundles["iris"]], tmp_path, "--workers", "2"):
            pass
    text = " ".join(str(told.value).split())
    assert "ImportError: no such GLIBC" in text
    assert "exited with 1 before it was ready" in text


def test_a_connection_too_many_is_refused_by_the_supervisor(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Two workers of two connections each: the fifth caller gets 503 and the end; once one has gone another is let in.
    The page of metrics counts what was refused.
    """
    call = request(PATH, json.dumps({"instances": [IRIS_ROW]}).encode())
    with running([bundles["iris"]], tmp_path, "--workers", "2", limits__connections=2) as server:
        callers = [server.connect() for _ in range(4)]
        for caller in callers:
            caller.sendall(call)
            assert 200 == read_answer(caller).status
        with server.connect() as fifth:
            fifth.sendall(call)
            answer = read_answer(fifth)
            assert (503, "1", "close") == (answer.status, answer.headers["retry-after"], answer.headers["connection"])
            assert "limits.connections" in answer.json["error"]["message"]
            assert b"" == fifth.recv(1)
        for caller in callers[1:]:
            caller.sendall(call)
            assert 200 == read_answer(caller).status
        for caller in callers:
            caller.close()
        wait_for(lambda: summed(server, "penstock_connections_refused_total") == 1.0)
        with server.connect() as again:
            again.sendall(call)
            assert 200 == read_answer(again).status
