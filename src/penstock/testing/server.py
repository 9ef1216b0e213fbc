"""A real `penstock serve` process on a free port, and what it wrote."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from penstock.audit import Pseudonyms, Record, open_pseudonyms, read_records

START_S = 60.0
STOP_S = 30.0


class Running:
    """A server process; `url` answers, `home` has its audit log. `text` is what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], home: Path, output: Path) -> None:
        self.process = process
        self.home = home
        self.output = output
        self.url = ""

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.url.rpartition(":")[2])

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.output.read_text(errors="replace")

    def client(self, **options: Any) -> httpx.Client:
        """A plain HTTP client for its address, with httpx's own `options`; for predictions there is penstock.Client."""
        return httpx.Client(base_url=self.url, trust_env=False, timeout=30, **options)

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    @property
    def pseudonyms(self) -> Pseudonyms:
        """What its records have in place of keys and client ids."""
        return open_pseudonyms(self.home)

    def records(self) -> list[Record]:
        """Everything that it has recorded so far, oldest first."""
        return records(self.home)

    def record(self, request_id: str) -> Record:
        """The one record of a call. Raises ValueError where there is none."""
        [found] = [record for record in self.records() if record.request_id == request_id]
        return found

    def stop(self) -> int:
        """Ask the process to stop; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(STOP_S)


def segments(home: Path) -> list[Path]:
    """All audit segments below `home`, oldest first."""
    return sorted((home / "audit").glob("worker-*/*.jsonl"))


def records(home: Path) -> list[Record]:
    """All committed records below `home`."""
    return [record for path in segments(home) for record in read_records(path)]


def command(bundles: Sequence[Path], home: Path, *words: str) -> list[str]:
    """The command line that serves `bundles`."""
    options = [word for bundle in bundles for word in ("--bundle", str(bundle))]
    # One process, unless a test says more: it starts sooner.
    return [sys.executable, "-m", "penstock", "serve", *options, "--home", str(home), "--workers", "0", *words]


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment with settings such as `server__max_rows=10`, and no others of Penstock's."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return clean | {f"PENSTOCK_{name.upper()}": str(value) for name, value in settings.items()}


@contextlib.contextmanager
def running(
    bundles: Sequence[Path], home: Path, *words: str, prefix: Sequence[str] = (), **settings: object
) -> Iterator[Running]:
    """A server of `bundles` on a free port, while the block runs; it writes below `home`.

    `words` are further options of `penstock serve`; `prefix` is a command that executes the rest of its line; settings
    have their names in the environment (`server__max_rows=10`). Raises AssertionError when it does not start.
    """
    home.mkdir(parents=True, exist_ok=True)
    output = home / f"output-{len(list(home.glob('output-*')))}.txt"
    line = [*prefix, *command(bundles, home, "--port", "0", *words)]
    with output.open("wb") as out:
        process = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=home, env=environment(settings)
        )
    server = Running(process, home, output)
    try:
        server.url = _address(server)
        yield server
    finally:
        try:
            server.stop()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(STOP_S)


def _address(server: Running) -> str:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s:
        found = re.search(r"serves at (http://\S+)", server.text)
        if found:
            return found.group(1)
        if server.process.poll() is not None:
            break
        time.sleep(0.02)
    raise AssertionError(f"the server did not start: {server.text[-2000:]}")
