"""How the supervisor starts a process of ours: its environment, its end of a channel, and when to try again."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from typing import Final

from penstock.settings import environment_for_child
from penstock.workers import channel

_BACK_OFF_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
_HEALTHY_S: Final = 10.0
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


class BackOff:
    """How long to wait before a process is started again: longer each time, unless it had lived for a while."""

    def __init__(self) -> None:
        self._failures = 0

    def after_s(self, lived_s: float) -> float:
        """The seconds to wait after a life of `lived_s`."""
        self._failures = 1 if lived_s > _HEALTHY_S else self._failures + 1
        return _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S)) - 1]


class Channelled:
    """Another process at the end of a channel, and when it was last heard."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.started_s = self.heard_s = time.monotonic()

    @property
    def lived_s(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self.started_s


def spawn(module: str, *, threads: int, **environment: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Run `module` as a process whose libraries use `threads` threads; it gets one end of a channel, we the other.

    `environment` is added; what the user's own says stays.
    """
    ours, theirs = channel.pair()
    whole = environment_for_child(**dict.fromkeys(_THREADS, str(threads)), **environment)
    command = [sys.executable, "-m", module, str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=whole)
    theirs.close()
    return process, ours


def fate_of(process: subprocess.Popen[bytes], within_s: float = 0.05) -> str:
    """How a process whose channel has come to its end ended: "exited with 1", "was killed by SIGKILL". Blocks."""
    with contextlib.suppress(subprocess.TimeoutExpired):  # its channel is closed a moment before
        process.wait(within_s)
    code = process.returncode
    if code is None:
        return "closed its channel"
    return f"exited with {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
