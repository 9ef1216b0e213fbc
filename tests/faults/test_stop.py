"""SIGTERM under load, and two servers: what was asked is answered, the log is closed in order, ports are not shared."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from loads import wait_for
from penstock.audit import verify
from running import STOP_S, Running, command, environment, read_answer, request, running, segments

IRIS = "/v1/models/iris/predict"
BODY = msgspec.json.encode(
    {"instances": [{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}]}
)


async def call_until_closed(server: Running, begun: asyncio.Barrier) -> int:
    """One connection's calls, one after the other, until a reply says that it was the last; how many were answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answered = 0
    try:
        while True:
            writer.write(request(IRIS, BODY))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            assert head.startswith(b"http/1.1 200")
            answered += 1
            if answered == 20:
                await begun.wait()
            if b"connection: close" in head:
                return answered
    finally:
        writer.close()


async def stop_under_load(server: Running, signum: int) -> int:
    """How many calls were answered by a server that is stopped while twenty connections ask. Raises on a lost one."""
    begun = asyncio.Barrier(21)
    callers = [asyncio.create_task(call_until_closed(server, begun)) for _ in range(20)]
    await begun.wait()
    server.process.send_signal(signum)
    return sum(await asyncio.wait_for(asyncio.gather(*callers), STOP_S))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopping_under_load_loses_nothing(bundles: dict[str, Path], tmp_path: Path, signum: int) -> None:
    """Callers with one request at a time are all answered; the log is whole, nothing dropped, and the exit is 0."""
    with running([bundles["iris"]], tmp_path) as server:
        answered = asyncio.run(stop_under_load(server, signum))
        assert 0 == server.process.wait(STOP_S)
    [path] = segments(tmp_path)
    report = verify(path)
    assert (None, 0, 0, answered) == (report.broken, report.torn_bytes, report.dropped, report.records)
    assert "Traceback" not in server.text


def test_an_idle_connection_is_closed(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A connection on which nothing is asked does not keep the server from stopping."""
    with running([bundles["iris"]], tmp_path, server__keep_alive_s=60) as server, server.connect() as connection:
        connection.sendall(request(IRIS, BODY))
        assert 200 == read_answer(connection).status
        server.process.terminate()
        assert b"" == connection.recv(1)
        assert 0 == server.process.wait(STOP_S)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_it_is_not_ready_for_a_while_before_it_stops(bundles: dict[str, Path], tmp_path: Path, workers: str) -> None:
    """With `server.unready_s` new callers are answered after SIGTERM, but readiness is denied; a second one ends it."""
    started = running([bundles["iris"]], tmp_path, "--workers", workers, server__unready_s=300)
    with started as server, server.client() as client:
        assert 200 == client.get("/health/ready").status_code
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get("/health/ready").status_code == 503)
        with server.client() as other:
            assert 200 == other.post(IRIS, content=BODY).status_code
            assert "stopping" == other.get("/health/ready").json()["status"]
            assert (200, 503) == (other.get("/health/live").status_code, other.get("/v2/health/ready").status_code)
        server.process.send_signal(signal.SIGTERM)
        assert 0 == server.process.wait(STOP_S)


def test_a_slow_run_is_waited_for(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A call that is with a model in another thread when the server stops is answered and recorded."""
    body = msgspec.json.encode({"columns": {"x": [5.0] * 10_000}})
    with running([bundles["growth"]], tmp_path) as server, server.connect() as connection:
        connection.sendall(request("/v1/models/growth/predict", msgspec.json.encode({"instances": [{"x": 5.0}]})))
        assert 200 == read_answer(connection).status  # so that the connection is accepted
        connection.sendall(request("/v1/models/growth/predict", body))
        server.process.terminate()
        answer = read_answer(connection)
        assert 0 == server.process.wait(STOP_S)
    assert (200, 10_000) == (answer.status, len(answer.json["predictions"]))
    assert answer.json["request_id"] == server.records()[-1].request_id


def test_two_servers_on_one_port(bundles: dict[str, Path], tmp_path: Path) -> None:
    """The second server says in one line that the port is taken and exits 2; the first goes on, its log untouched."""
    with running([bundles["iris"]], tmp_path) as server:
        line = command([bundles["iris"]], tmp_path, "--port", str(server.port))
        second = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment({}), cwd=tmp_path)
        with server.connect() as connection:
            connection.sendall(request(IRIS, BODY))
            assert 200 == read_answer(connection).status
        [message] = second.stderr.strip().splitlines()
        assert (2, "") == (second.returncode, second.stdout)
        assert f"cannot listen on 127.0.0.1:{server.port}" in message
        assert "--port" in message
    assert [1] == [verify(path).records for path in segments(tmp_path)]


def test_two_servers_on_one_home(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Two servers may share a home: each has a segment of its own, and the second leaves the first one's alone."""
    with running([bundles["iris"]], tmp_path) as one, running([bundles["iris"]], tmp_path) as other:
        for server in (one, other, one):
            with server.connect() as connection:
                connection.sendall(request(IRIS, BODY))
                assert 200 == read_answer(connection).status
    assert [1, 2] == sorted(verify(path).records for path in segments(tmp_path))
