"""Too many open files: the server neither spins nor falls over, and is as before once there is room."""

from __future__ import annotations

import itertools
import resource
import sys
from pathlib import Path

import pytest

from loads import Load, iris_call, sockets_of, wait_for, workers_of
from running import Running, read_answer, running

CALL = iris_call()
LIMITED = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
IDLE = 300


def taken(server: Running, workers: int) -> list[int]:
    """Sockets of each process that takes calls."""
    return [sockets_of(pid) for pid in processes(server, workers)]


def processes(server: Running, workers: int) -> list[int]:
    """The processes that take calls."""
    return workers_of(server) if workers else [server.process.pid]


def files_of(pid: int) -> int:
    """The number of files that leaves a process none to open: its numbers below are all taken."""
    taken = {int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in itertools.count() if number not in taken)


@pytest.mark.parametrize("workers", [0, 2])
def test_more_connections_than_files(bundles: dict[str, Path], tmp_path: Path, workers: int) -> None:
    """Idle connections take every file a process may have; those that were taken are answered, and later all are.

    What is too much is ended or waits. The processes stay, and wait rather than spin.
    """
    prefix = (sys.executable, "-c", LIMITED)
    words = ("--workers", str(workers))
    with running([bundles["iris"]], tmp_path, *words, prefix=prefix, server__keep_alive_s=60) as server:
        before = taken(server, workers)
        pids = processes(server, workers)
        with server.connect() as first:
            first.sendall(CALL)
            assert 200 == read_answer(first).status
            crowd = [server.connect() for _ in range(IDLE)]
            wait_for(lambda: max(taken(server, workers)) > 40, "the files are used up")
            for _ in range(100):
                first.sendall(CALL)
                assert 200 == read_answer(first).status
            for connection in crowd:
                connection.close()
        wait_for(lambda: taken(server, workers) == before, "no connection is left")
        with Load(server, 8, CALL) as load:
            load.wait_for(300)
        assert ([], {200}, 0) == (load.lost, set(load.statuses), load.refused)
        assert server.process.poll() is None
        assert len(server.text.splitlines()) < 50
        assert pids == processes(server, workers)


def test_a_supervisor_without_descriptors(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A supervisor that cannot accept says so now and then, and what has waited is answered once it can."""
    with running([bundles["iris"]], tmp_path, "--workers", "2") as server:
        pid = server.process.pid
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (files_of(pid), usual[1]))
        waiting = [server.connect() for _ in range(20)]
        for connection in waiting:
            connection.sendall(CALL)
        wait_for(lambda: server.text.count("no connection can be accepted") > 1, "it says so")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        assert [200] * 20 == [read_answer(connection).status for connection in waiting]
        for connection in waiting:
            connection.close()
        assert len(server.text.splitlines()) < 200
