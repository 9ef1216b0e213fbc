"""Backup of a running server under load, and a server of what was restored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from loads import Load, iris_call, wait_for
from penstock.audit import broken_links, verify
from rows import IRIS_ROW
from running import Running, environment, running, segments
from variants import variant


def penstock(*words: object) -> Any:
    """What a command says with --json."""
    line = [sys.executable, "-m", "penstock", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment({}), check=False)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout) if "--json" in words else done.stdout


def is_ready(server: Running) -> bool:
    with server.client() as client:
        return client.get("/health/ready").status_code == 200


def predictions(server: Running) -> Any:
    with server.client() as client:
        rows = [{**IRIS_ROW, "petal_length": length / 10} for length in range(10, 60)]
        return client.post("/v1/models/iris/predict", json={"instances": rows}).json()["predictions"]


def test_a_running_home_is_backed_up_and_restored(bundles: dict[str, Path], tmp_path: Path) -> None:
    """While callers are answered: the restored home has the same history, the same answers, and a log that verifies."""
    home, backup, elsewhere = tmp_path / "home", tmp_path / "backup", tmp_path / "elsewhere"
    with running([], home, "--workers", "1", control__port=0) as server:
        penstock("publish", bundles["iris"], "--home", home)
        penstock("publish", variant(bundles["iris"], tmp_path, 1), "--home", home)
        penstock("deploy", "iris", 2, "--home", home, "--reason", "better")
        with Load(server, 4, iris_call()) as load:
            load.wait_for(50)
            penstock("backup", backup, "--home", home)
            load.wait_for(50)
        assert ({200}, []) == (set(load.statuses), load.lost)
        answers, history = predictions(server), penstock("history", "iris", "--home", home, "--json")
    penstock("restore", backup, "--home", elsewhere)
    reports = [verify(path) for path in segments(elsewhere)]
    assert [] == broken_links(reports)
    assert [(None, 0)] == [(report.broken, report.torn_bytes) for report in reports]
    assert 50 <= reports[0].records <= len(load.answered)
    with running([], elsewhere, "--workers", "1", control__port=0) as server:
        wait_for(lambda: is_ready(server), "a ready server")
        assert answers == predictions(server)
        restored = penstock("history", "iris", "--home", elsewhere, "--json")
        assert history["events"] == restored["events"][: len(history["events"])]
