"""A log that cannot be written: at a file size limit, and on a disk that is really full."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loads import wait_for
from penstock.audit import verify
from running import running, segments

IRIS = "/v1/models/iris/predict"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
CALLS = 60
COUNTED = ("penstock_audit_records_total", "penstock_audit_dropped_total")
LIMIT_BYTES = 12_000
DISK_BYTES = 1 << 20
PAGE_BYTES = 4096
ROOM_BYTES = 8 * PAGE_BYTES
LIMITED = (
    f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES})); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def metrics(client: httpx.Client) -> dict[str, float]:
    """The counters of the log."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {sample.name: sample.value for family in families for sample in family.samples if sample.name in COUNTED}


def counted(client: httpx.Client) -> tuple[float, float]:
    """How many records are in the log, and how many could not be written."""
    found = metrics(client)
    return found["penstock_audit_records_total"], found["penstock_audit_dropped_total"]


@pytest.mark.parametrize("durability", ["async", "write", "fsync", "strict"])
def test_a_full_disk(bundles: dict[str, Path], tmp_path: Path, durability: str) -> None:
    """`async` and `write` go on answering and count what is not recorded; `fsync` and `strict` answer 503 with
    Retry-After instead.

    Either way what is in the log is whole and verifies, and each 200 of the last two is in it.
    """
    prefix = (sys.executable, "-c", LIMITED)
    with running([bundles["iris"]], tmp_path, prefix=prefix, audit__durability=durability, audit__async_ms=1) as server:
        with server.client() as client:
            answers = [client.post(IRIS, json={"instances": [ROW]}) for _ in range(CALLS)]
            if durability == "async":
                wait_for(lambda: sum(counted(client)) == CALLS, "the thread")
            found = metrics(client)
        written = server.records()
        assert "Traceback" not in server.text
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(written) < CALLS
    assert {
        "penstock_audit_records_total": len(written),
        "penstock_audit_dropped_total": CALLS - len(written),
    } == found
    if durability in ("async", "write"):
        assert [] == refused
    else:
        assert CALLS - len(written) == len(refused)
        for answer in refused:
            error = answer.json()["error"]
            assert (503, "1", "record_failed") == (answer.status_code, answer.headers["retry-after"], error["code"])
            assert str(tmp_path) not in answer.text
        answered = {answer.json()["request_id"] for answer in answers if answer.status_code == 200}
        assert answered == {record.request_id for record in written}
    assert [(None, 0)] == [(report.broken, report.torn_bytes) for report in map(verify, segments(tmp_path))]


@contextlib.contextmanager
def small_disk(where: Path) -> Iterator[Path]:
    """A filesystem of its own with room for `DISK_BYTES`; skips where mounting is not allowed."""
    where.mkdir(parents=True)
    line = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(where)]
    if shutil.which("mount") is None or subprocess.run(line, capture_output=True).returncode:
        pytest.skip("a filesystem cannot be mounted here: it takes root and CAP_SYS_ADMIN")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(ballast: Path) -> None:
    """Take all of the disk but a few pages."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * PAGE_BYTES):
            pass
        # A short last write leaves nothing, too.
    with ballast.open("r+b") as file:
        file.truncate(max(0, ballast.stat().st_size - ROOM_BYTES))


@pytest.mark.parametrize("durability", ["write", "strict"])
def test_a_disk_that_is_full_for_a_while(bundles: dict[str, Path], tmp_path: Path, durability: str) -> None:
    """Two workers on a disk that is really full obey their class, and are as before once there is room again."""
    with (
        small_disk(tmp_path / "audit") as disk,
        running([bundles["iris"]], tmp_path, "--workers", "2", audit__durability=durability) as server,
    ):
        fill(disk / "ballast")
        failed = calls = 0
        answered: list[str] = []
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.client()) for _ in range(4)]
            wait_for(lambda: counted(clients[0])[1] == 0)
            while calls < 4 * CALLS:
                answer = clients[calls % 4].post(IRIS, json={"instances": [ROW]})
                calls += 1
                failed += answer.status_code == 503
                if answer.status_code == 200:
                    answered.append(answer.json()["request_id"])
            wait_for(lambda: sum(counted(clients[0])) == calls, "the sums")
            recorded, dropped = counted(clients[0])
            assert recorded == len(server.records()) > 0
            assert dropped > 0
            assert failed == (dropped if durability == "strict" else 0)
            (disk / "ballast").unlink()
            after = [client.post(IRIS, json={"instances": [ROW]}) for client in clients * 10]
        assert [200] * 40 == [answer.status_code for answer in after]
        found = [record.request_id for record in server.records()]
        assert {answer.json()["request_id"] for answer in after} <= set(found)
        if durability == "strict":
            assert set(answered) <= set(found)
        assert 0 == server.stop()
        reports = [verify(path) for path in segments(tmp_path)]
        assert [(None, 0)] * len(reports) == [(report.broken, report.torn_bytes) for report in reports]
        assert dropped == sum(report.dropped for report in reports)
        assert "Traceback" not in server.text
