"""Servers as processes pinned to a core: how long until their first good answer, their memory, their processor time."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

SERVER_CORE, CLIENT_CORE = 0, 1
START_S = 120.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Memory(msgspec.Struct, frozen=True):
    """What the processes of a server hold, summed.

    PSS counts a page that n processes of the machine share as 1/n, so it moves when others come and go; `own_mib` is
    the anonymous memory alone, the heap, in which a leak would be.
    """

    pss_mib: float
    rss_mib: float
    own_mib: float
    processes: int


class Running(msgspec.Struct, frozen=True):
    """A server that answers: its first process, and how long that took from its start."""

    pid: int
    first_answer_s: float
    output: Path

    def cpu_s(self) -> float:
        """Processor time of all its processes so far, user and system."""
        return sum(_cpu_s(pid) for pid in family(self.pid))

    def settle(self, within_s: float = 30.0) -> None:
        """Wait until it computes nothing any more: what a client left behind must not disturb the next server."""
        until_s, before_s = time.monotonic() + within_s, -1.0
        while time.monotonic() < until_s and self.cpu_s() - before_s > 2 * _TICK_S:
            before_s = self.cpu_s()
            time.sleep(0.2)

    def memory(self) -> Memory:
        """What it holds now."""
        held = [memory_of(pid) for pid in family(self.pid)]
        return Memory(
            sum(one.pss_mib for one in held),
            sum(one.rss_mib for one in held),
            sum(one.own_mib for one in held),
            len(held),
        )


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    *,
    output: Path,
    answers: Callable[[], bool],
    cores: str = str(SERVER_CORE),
    environment: Mapping[str, str] | None = None,
    within_s: float = START_S,
) -> Iterator[Running]:
    """Run a server on `cores` from its first good answer (`answers`, asked again and again) to the end of the block.

    All its processes are gone afterwards. Raises RuntimeError with the end of its output if it ends or does not answer.
    """
    with output.open("wb") as out:
        began_s = time.monotonic()
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            start_new_session=True,
            cwd=output.parent,
        )
        try:
            _await(answers, process, output, within_s)
            yield Running(process.pid, time.monotonic() - began_s, output)
        finally:
            _end(process)


def python(*command: str) -> list[str]:
    """A command of this interpreter."""
    return [sys.executable, *command]


def posts(url: str, body: bytes, headers: Mapping[str, str]) -> bytes | None:
    """The body of the reply if it is 200, else None: nobody listens, or not yet for this.

    Raises RuntimeError for a refusal that no waiting mends (4xx but 404).
    """
    request = urllib.request.Request(url, data=body, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            read: bytes = reply.read()
            return read if reply.status == 200 else None
    except urllib.error.HTTPError as refused:
        if 400 <= refused.code < 500 and refused.code != 404:
            raise RuntimeError(f"{url} answered {refused.code}: {refused.read()[:400]!r}") from None
    except (OSError, http.client.HTTPException):
        pass
    return None


def end_in_order() -> None:
    """Let SIGTERM end this program as Ctrl-C does, so that no server outlives it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def family(pid: int) -> list[int]:
    """`pid` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue += children.get(found[-1], [])
    return found


def memory_of(pid: int) -> Memory:
    """Of one process; nothing if it has ended."""
    held = {"Pss": 0, "Rss": 0, "Anonymous": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in held:
                held[name] = int(rest.split()[0])
    return Memory(held["Pss"] / 1024, held["Rss"] / 1024, held["Anonymous"] / 1024, 1)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat after the name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = _stat(pid)
        return (int(fields[11]) + int(fields[12])) * _TICK_S
    return 0.0


def _await(answers: Callable[[], bool], process: subprocess.Popen[bytes], output: Path, within_s: float) -> None:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {_end_of(output)}")
        if answers():
            return
        time.sleep(0.01)
    raise RuntimeError(f"no good answer within {within_s:.0f} s: {_end_of(output)}")


def _end_of(output: Path) -> str:
    return output.read_text(errors="replace")[-2000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, ten seconds, then SIGKILL to whichever of its processes are left (Ray's live on otherwise)."""
    pids = family(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(10)
