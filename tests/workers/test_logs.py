"""The server's own log lines, from real processes: one file of all, JSON with fields, storms summarised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from loads import wait_for
from penstock.errors import SettingsError
from penstock.logs import set_up_logs
from penstock.settings import LogSettings
from rows import IRIS_ROW
from running import Running, running

DEADLINE_S = 30.0
PATH = "/v1/models/iris/predict"


@pytest.fixture
def server(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Running]:
    """One worker to which a call of a millisecond is slow."""
    with running([bundles["iris"]], tmp_path, "--workers", "1", log__file="penstock.log", log__slow_ms=1) as started:
        yield started


def ask(server: Running, rows: int, headers: Mapping[str, str]) -> httpx.Response:
    """One call of `iris`, on a connection of its own."""
    with server.client() as client:
        return client.post(PATH, json={"instances": [IRIS_ROW] * rows}, headers=headers)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def calls_of(server: Running) -> list[dict[str, Any]]:
    """The lines that tell of calls."""
    return [line for line in lines_of(server.home / "penstock.log") if line["logger"] == "penstock.calls"]


def workers_of(server: Running) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(server.process.pid), "-f", "penstock.workers.worker"],
                           capture_output=True, text=True).stdout  # fmt: skip
    return [int(pid) for pid in found.split()]


def test_an_error_storm_is_summarised(server: Running) -> None:
    """Of 40 equal failures the first five have a line with the request's id, the rest one line with their number."""
    late = {"x-deadline-ms": "0", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    failed = [ask(server, 1, late) for _ in range(40)]
    assert {504} == {answer.status_code for answer in failed}
    assert 0 == server.stop()
    ids = [answer.json()["error"]["request_id"] for answer in failed]
    told = calls_of(server)
    assert ids[:5] == [line["request_id"] for line in told[:5]]
    expected = {"level": "error", "model": "iris", "version": 1, "worker": 0, "rows": 1, "trace_id": "a" * 32}
    assert expected.items() <= told[0].items()
    [summary] = told[5:]
    assert (35, ids[-1]) == (summary["untold"], summary["request_id"])
    assert summary["message"].startswith("iris 1: deadline_exceeded 35 more times in the last ")


def test_a_slow_call_is_marked(server: Running) -> None:
    """A call at or above log.slow_ms has a warning with its id, model, rows and times; text on stderr has them too."""
    request_id = ask(server, 5000, {}).json()["request_id"]
    server.stop()
    [line] = calls_of(server)
    assert {"level": "warning", "request_id": request_id, "rows": 5000, "worker": 0}.items() <= line.items()
    assert line["queue_ms"] + line["run_ms"] <= line["total_ms"]
    assert round(server.record(request_id).total_ms, 2) == line["total_ms"]
    assert f"WARNING penstock.calls worker 0: slow (request_id={request_id} model=iris version=1" in server.text


def test_all_processes_write_one_file(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Two workers, those that replace them and their supervisor write one small file, which rotates: each line is
    there once, as on stderr, and says who wrote it.
    """
    settings = {"log__file": "penstock.log", "log__max_bytes": 4096, "log__backups": 50, "log__format": "json"}
    with running([bundles["iris"]], tmp_path, "--workers", "2", **settings) as server:
        before = workers_of(server)
        fail_on_all(server)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(workers_of(server)) == 2 and not set(before) & set(workers_of(server)))
        fail_on_all(server)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        wait_for(lambda: " was killed by SIGKILL; another starts in " in server.text)
        assert 0 == server.stop()
    files = list(tmp_path.glob("penstock.log*"))
    assert len(files) > 1
    assert {None, 0, 1} == {line.get("worker") for file in files for line in lines_of(file)}
    on_stderr = [line for line in server.text.splitlines() if line.startswith("{")]
    assert Counter(on_stderr) == Counter(line for file in files for line in file.read_text().splitlines())


def fail_on_all(server: Running) -> None:
    """Eight failed calls on each of two workers: connections go to the one that has the fewest."""
    with server.client() as one, server.client() as other:
        for client in (one, other) * 8:
            client.post(PATH, json={"instances": [IRIS_ROW]}, headers={"x-deadline-ms": "0"})


def test_a_file_that_cannot_be_written_is_refused() -> None:
    """The error says which setting is wrong and what to do."""
    with pytest.raises(SettingsError, match=r"at `log.file`: No such file or directory. Make its directory"):
        set_up_logs(LogSettings(file="not/there/penstock.log"))
