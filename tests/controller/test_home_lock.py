"""The lock of a home, between real processes, and where its controller answers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from penstock.controller.lock import ADDRESS_FILE, Address, answering, locked, remove_address, write_address

HOLDING = """
import sys
from pathlib import Path
from penstock.controller.lock import locked
with locked(Path(sys.argv[1])) as is_ours:
    print(is_ours, flush=True)
    sys.stdin.read()
"""
URL = "http://127.0.0.1:8082"


@contextlib.contextmanager
def holding(home: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Another process that takes the lock, and whether it got it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """While one process holds the lock no other gets it; a killed one lets go of it."""
    home = tmp_path / "home"
    with holding(home) as (told, process):
        assert "True" == told
        with locked(home) as is_ours:
            assert not is_ours
        process.kill()
        with locked(home, 30.0) as is_ours:
            assert is_ours
            with holding(home) as (other, _):
                assert "False" == other


def test_a_running_controller_is_not_waited_for(tmp_path: Path) -> None:
    """Who would wait for the lock is told at once that a controller of a running server has it."""
    with holding(tmp_path):
        write_address(tmp_path, Address(URL, os.getpid(), os.getppid()))
        with locked(tmp_path, 1e9) as is_ours:
            assert not is_ours


def test_where_the_controller_answers(tmp_path: Path) -> None:
    """An address counts while its controller and its server live, and is gone once it is removed."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert None is answering(tmp_path)
    alive = Address(URL, os.getpid(), os.getppid())
    write_address(tmp_path, alive)
    assert alive == answering(tmp_path)
    for dead in (Address(URL, ended.pid, os.getpid()), Address(URL, os.getpid(), ended.pid)):
        write_address(tmp_path, dead)
        assert None is answering(tmp_path)
    (tmp_path / ADDRESS_FILE).write_text("{")
    assert None is answering(tmp_path)
    remove_address(tmp_path)
    remove_address(tmp_path)
    assert [] == list(tmp_path.iterdir())
