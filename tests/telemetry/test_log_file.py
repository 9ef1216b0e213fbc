"""The log file that processes share: rotated, and no line lost."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.telemetry.log_file import RotatedLines

PROCESSES, LINES = 4, 3000
WRITER = """
import logging, sys
from pathlib import Path
from penstock.telemetry.log_file import RotatedLines
file = RotatedLines(Path(sys.argv[1]), max_bytes=20_000, backups=100)
for number in range(int(sys.argv[3])):
    file.handle(logging.makeLogRecord({"msg": f"{sys.argv[2]}-{number} {'.' * (number % 40)}"}))
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[RotatedLines]:
    made = RotatedLines(tmp_path / "penstock.log", max_bytes=100, backups=2)
    yield made
    made.close()


def write(file: RotatedLines, text: str) -> None:
    file.handle(logging.makeLogRecord({"msg": text}))


def test_processes_lose_no_line_and_mix_none(tmp_path: Path) -> None:
    """Four processes write and rotate one file at once: every line is whole and there once."""
    path = tmp_path / "penstock.log"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number), str(LINES)])
        for number in range(PROCESSES)
    ]
    assert [0] * PROCESSES == [writer.wait(60) for writer in writers]
    files = list(tmp_path.iterdir())
    assert len(files) > 10
    lines = [line.partition(" ") for file in files for line in file.read_text().splitlines()]
    expected = {f"{process}-{number}" for process in range(PROCESSES) for number in range(LINES)}
    assert Counter(expected) == Counter(name for name, _, _ in lines)
    assert all("." * (int(name.partition("-")[2]) % 40) == dots for name, _, dots in lines)


def test_the_oldest_goes(file: RotatedLines, tmp_path: Path) -> None:
    """A full file moves aside, and beyond the backups the oldest is gone."""
    for letter in "abcd":
        write(file, letter * 90)
    names = {path.name: path.read_text()[0] for path in tmp_path.iterdir()}
    assert {"penstock.log": "d", "penstock.log.1": "c", "penstock.log.2": "b"} == names


def test_a_file_moved_by_hand_is_begun_again(file: RotatedLines, tmp_path: Path) -> None:
    """Whoever moves or removes the file (logrotate, a person) stops no line."""
    write(file, "one")
    (tmp_path / "penstock.log").rename(tmp_path / "elsewhere")
    write(file, "two")
    (tmp_path / "penstock.log").unlink()
    write(file, "three")
    assert "one\n" == (tmp_path / "elsewhere").read_text()
    assert "three\n" == (tmp_path / "penstock.log").read_text()


def test_a_line_longer_than_the_bound_is_written(file: RotatedLines, tmp_path: Path) -> None:
    """No line is cut, and an empty file is not moved aside for one."""
    write(file, "x" * 300)
    assert ["penstock.log"] == [path.name for path in tmp_path.iterdir()]


def test_lone_surrogates_are_spelled_out(file: RotatedLines, tmp_path: Path) -> None:
    """Whatever a caller calls itself, the line can be written."""
    write(file, "a\ud800b")
    assert "a\\ud800b\n" == (tmp_path / "penstock.log").read_text()
