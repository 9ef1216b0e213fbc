"""The closed loop: wrk posts one body over and over on n connections; each sends when it has its answer."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from processes import CLIENT_CORE


class Figures(msgspec.Struct, frozen=True):
    """What one run measured."""

    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    answered: int


def require(program: str, package: str) -> None:
    """Raises SystemExit naming the Debian package of a program that is missing."""
    if shutil.which(program) is None:
        raise SystemExit(f"{program} is missing; on Debian: apt-get install {package}")


def wrk(
    url: str,
    body: bytes,
    *,
    seconds: int,
    connections: int,
    scratch: Path,
    headers: Mapping[str, str] | None = None,
    cores: str = str(CLIENT_CORE),
) -> Figures:
    """Post `body` to `url` for `seconds` from one thread. Answers other than 2xx count as failed."""
    script = scratch / "post.lua"
    script.write_bytes(_script(body, headers or {"Content-Type": "application/json"}))
    command = ["taskset", "-c", cores, "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", "--timeout", "10"]
    text = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=True).stdout
    return figures_of(text)


def figures_of(text: str) -> Figures:
    """The figures in what wrk printed."""
    failed = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    failed += int((re.findall(r"Non-2xx or 3xx responses: (\d+)", text) or ["0"])[0])
    return Figures(
        per_second=float(_found(r"Requests/sec:\s+([\d.]+)", text)),
        p50_ms=_milliseconds("50%", text),
        p99_ms=_milliseconds("99%", text),
        failed=failed,
        answered=int(_found(r"(\d+) requests in", text)),
    )


def _script(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The script for wrk; the body byte by byte, as some are not text."""
    lines = ['wrk.method = "POST"', *(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())]
    quoted = "".join(f"\\{byte:03d}" for byte in body)
    return "\n".join([*lines, f'wrk.body = "{quoted}"', ""]).encode()


def _milliseconds(quantile: str, text: str) -> float:
    number, unit = re.findall(rf"{quantile}\s+([\d.]+)(us|ms|s|m)\b", text)[0]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[unit]


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk printed no figures: {text[:500]}")
    return found.group(1)
