"""A PostgreSQL of our own: a private cluster in a temporary directory, on a Unix socket, stopped at the end.

As root its programs run as `nobody`, because PostgreSQL refuses root.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loads import wait_for

_PROGRAMS = ("initdb", "postgres", "pg_isready", "psql")


class Cluster:
    """PostgreSQL on a socket in `directory`; `stop` and `start` take it away and bring it back."""

    def __init__(self, programs: Path, directory: Path, run_as: dict[str, Any]) -> None:
        self._programs = programs
        self._directory = directory
        self._run_as = run_as
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        options = ("listen_addresses=", "fsync=off", "max_connections=40", "shared_buffers=16MB", "jit=off")
        line = [self._programs / "postgres", "-D", self._directory / "data", "-k", self._directory]
        for option in options:
            line += ["-c", option]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(line, stdout=log, stderr=log, cwd="/", **self._run_as)
        ready = [self._programs / "pg_isready", "-q", "-h", self._directory]
        wait_for(lambda: subprocess.run(ready).returncode == 0, "PostgreSQL")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Take it away: connections are cut at once. By SIGQUIT it is as if it had crashed."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Within this it holds its connections, and answers nothing."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            os.kill(one, signal.SIGSTOP)
        try:
            yield
        finally:
            for one in (pid, *map(int, children)):
                os.kill(one, signal.SIGCONT)

    def new_url(self) -> str:
        """The URL of a new, empty schema: a hundred times smaller than a database, and as much apart."""
        name = f"state_{next(self._numbers)}"
        self.run(f"CREATE SCHEMA {name}")
        return f"postgresql://penstock@/postgres?host={self._directory}&options=-csearch_path%3D{name}"

    def run(self, statement: str, url: str | None = None) -> str:
        """What psql prints for a statement, as the superuser. Raises CalledProcessError."""
        where = url or f"postgresql://penstock@/postgres?host={self._directory}"
        line = [self._programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, where]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def private_cluster() -> Iterator[Cluster]:
    """A cluster that runs. Skips the test where PostgreSQL or psycopg is not installed."""
    pytest.importorskip("psycopg", reason="PostgreSQL's tests need psycopg: pip install 'penstock[postgres]'")
    programs = _programs()
    directory = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
    cluster = Cluster(programs, directory, _ordinary_user(directory))
    try:
        line = [programs / "initdb", "-D", directory / "data", "-U", "penstock", "-A", "trust", "--no-sync"]
        subprocess.run(
            [*line, "-E", "UTF8", "--locale=C"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **_ordinary_user(directory),
        )
        cluster.start()
        yield cluster
    finally:
        cluster.stop(signal.SIGQUIT)
        shutil.rmtree(directory)


def _programs() -> Path:
    places = [Path("/usr/bin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin")), Path("/usr/local/pgsql/bin")]
    for place in reversed(places):
        if all((place / program).exists() for program in _PROGRAMS):
            return place
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql")


def _ordinary_user(directory: Path) -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
