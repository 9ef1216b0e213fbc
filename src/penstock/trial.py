"""Whether a bundle loads here, found out in a process of its own: what kills its process kills no other.

python -m penstock.trial      takes the task as JSON on standard input, and answers with the verdict as JSON
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

import msgspec

from penstock.errors import PenstockError
from penstock.loading import load_model
from penstock.settings import Settings, environment_for_child

_NICE: Final = 10
_TAIL_BYTES: Final = 2000
_LONGEST_LINE: Final = 300
# As native processes have them: a trial is to end as they would.
_ENVIRONMENT: Final = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class Task(msgspec.Struct, frozen=True):
    """What is to be tried, and with which settings."""

    path: str
    settings: Settings


class Verdict(msgspec.Struct, frozen=True):
    """Why the bundle cannot be served here; None if it can."""

    why: str | None


def failure_of(path: Path, settings: Settings) -> str | None:
    """Why the bundle at `path` cannot be served on this machine; None if it can. Blocks, up to `control.try_s`.

    It is opened, verified, loaded and proven on its golden rows, as a worker or a native process would.
    """
    task = msgspec.json.encode(Task(str(path.absolute()), settings))
    limit_s = settings.control.try_s
    with tempfile.TemporaryFile() as printed:
        with subprocess.Popen(
            [sys.executable, "-m", "penstock.trial"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            env=environment_for_child(**_ENVIRONMENT),
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(task, timeout=limit_s)
            except subprocess.TimeoutExpired:
                return f"it did not load and prove itself within {limit_s:g} s (control.try_s)"
            finally:
                _end(process)
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(said, type=Verdict).why
        return f"the process that loaded it {_fate(process.returncode)}{_last_line(printed)}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _fate(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code} and no word"


def _last_line(printed: IO[bytes]) -> str:
    printed.seek(0, os.SEEK_END)
    printed.seek(max(0, printed.tell() - _TAIL_BYTES))
    lines = printed.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; it printed last: {last[:_LONGEST_LINE]}" if last else ""


def verdict_of(task: Task) -> Verdict:
    """Load and prove in this process."""
    try:
        load_model(Path(task.path), 1, task.settings)
    except PenstockError as error:
        return Verdict(str(error))
    except Exception as error:  # the edge of the process: a library's own error must reach the operator
        return Verdict(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:_LONGEST_LINE]}")
    return Verdict(None)


def main() -> None:
    """Try the one task that comes on standard input."""
    os.nice(_NICE)  # what serves comes first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no verdict
    verdict = msgspec.json.encode(verdict_of(task))
    os.write(answer, verdict)
    sys.stdout.flush()
    os._exit(0)  # a library's threads must not keep it


if __name__ == "__main__":
    main()
