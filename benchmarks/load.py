"""Servers under load: each server pinned to one core, wrk to the other, and the figures that wrk prints."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec

SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS = 64


class Figures(msgspec.Struct, frozen=True):
    """What one run of wrk measured."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def server(*command: str, port: int, log: Path) -> Iterator[None]:
    """Run a Python program as a server on the server's core, from when it answers until it is told to stop."""
    pinned = ["taskset", "-c", str(SERVER_CORE), sys.executable, *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen(pinned, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            _await_answer(process, port, log)
            yield
        finally:
            process.terminate()
            process.wait(20)


def _await_answer(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            with contextlib.suppress(urllib.error.HTTPError):  # it answers; the other servers have no such path
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"no answer on port {port} within 60 s")


def wrk(url: str, body: bytes, *, seconds: int, scratch: Path, connections: int = CONNECTIONS) -> Figures:
    """Post `body` to `url` for `seconds` in a closed loop. Raises RuntimeError if wrk is missing or an answer fails."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is missing: apt-get install wrk")
    script = scratch / "post.lua"
    quoted = body.decode().replace("]]", "] ]")
    script.write_text(
        f'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = [[{quoted}]]\n'
    )
    command = ["taskset", "-c", str(CLIENT_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency"]
    text = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=True).stdout
    return figures_of(text)


def figures_of(text: str) -> Figures:
    """The figures in what wrk printed."""
    per_second = float(_found(r"Requests/sec:\s+([\d.]+)", text))
    failed = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    failed += int((re.findall(r"Non-2xx or 3xx responses: (\d+)", text) or ["0"])[0])
    return Figures(per_second, _milliseconds("50%", text), _milliseconds("99%", text), failed)


def _milliseconds(quantile: str, text: str) -> float:
    number, unit = re.findall(rf"{quantile}\s+([\d.]+)(us|ms|s)\b", text)[0]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk printed no figures: {text[:500]}")
    return found.group(1)
