"""The process of one shadow, started and watched by the controller (`shadows.py`).

python -m penstock.controller.shadow_process      takes the task as a line of JSON on standard input

It gives way to everything else on the machine, ends when its standard input does, or with the controller, and says on
standard output why it cannot go on. It may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.extra import sealed_lines
from penstock.errors import PenstockError
from penstock.jobs.recorded import Asked
from penstock.jobs.scoring import Scoring
from penstock.jobs.shadow import Shadow
from penstock.jobs.shadow_log import ShadowLog
from penstock.jobs.shadow_state import Shadowed, make_folder, stem_of
from penstock.loading import load_model
from penstock.logs import set_up_logs
from penstock.routing import Decision
from penstock.settings import Settings

_LOW: Final = 10
_LOWEST: Final = 19
_LEAST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
_ONE_THREAD: Final = 256  # workers, among whom the cores are shared


class Task(msgspec.Struct, frozen=True):
    """Who is to shadow whom: the bundle of the version at `path`, and by what the labels of the model are decided."""

    settings: Settings
    of: Shadowed
    path: str
    decision: Decision | None = None


def shadow(task: Task) -> None:
    """Shadow for ever. Raises PenstockError where that cannot begin or go on."""
    home, of, audit = Path(task.settings.home), task.of, task.settings.audit
    with _alone(home, of):
        one_thread = msgspec.structs.replace(task.settings.server, workers=_ONE_THREAD)
        model = load_model(Path(task.path), of.version, msgspec.structs.replace(task.settings, server=one_thread))
        log = ShadowLog(home / "audit", segment_bytes=audit.segment_bytes, segment_s=audit.seal_after_s)
        scoring = Scoring(model, Asked(model=of.model), decision=task.decision)
        log.open()
        at_work = Shadow(home, of, scoring, log, max_lag_s=task.settings.shadow.max_lag_s, sealed_lines=sealed_lines)
        pause_s = _LEAST_PAUSE_S
        while True:
            if at_work.step():
                pause_s = _LEAST_PAUSE_S
            else:
                time.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


@contextlib.contextmanager
def _alone(home: Path, of: Shadowed) -> Iterator[None]:
    """The shadow is this process' while the block runs; one that is about to end is waited for."""
    make_folder(home)
    with stem_of(home, of.model, of.version, ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _give_way(is_idle: bool) -> None:
    """Let everything else go first, and be the first to go where memory is short."""
    os.setpriority(os.PRIO_PROCESS, 0, max(_LOWEST if is_idle else _LOW, os.getpriority(os.PRIO_PROCESS, 0)))
    if sys.platform == "linux":
        if is_idle:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core of a crash would cost others the disk


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Shadow as the line on standard input says. Exits 1, having said why, when it cannot."""
    for each in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; who started this ends it
        signal.signal(each, signal.SIG_IGN)
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    _give_way(task.settings.shadow.priority == "idle")
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no reason
    threading.Thread(target=_end_with_input, daemon=True).start()
    set_up_logs(task.settings.log)
    try:
        shadow(task)
    except PenstockError as error:
        os.write(answer, str(error).encode())
    except Exception as error:  # the edge of the process: a library's own error must reach the operator
        os.write(answer, f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}".encode())
    os._exit(1)  # a library's threads must not keep it


if __name__ == "__main__":
    main()
