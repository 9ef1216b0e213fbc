"""A replay in a process of its own: niced, one thread, and what kills it kills no command.

python -m penstock.controller.replay      takes the task as a line on standard input, and tells as lines how it goes
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from penstock.audit.extra import sealed_lines
from penstock.errors import JobFailed, PenstockError
from penstock.jobs.replay import Progress, Question, Replay, Report, alone
from penstock.loading import load_model
from penstock.settings import Settings, environment_for_child

_NICE: Final = 10
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be replayed: the question, the bundle that answers it, and what `Replay` takes."""

    question: Question
    path: str
    settings: Settings
    moments: tuple[datetime | None, datetime | None] = (None, None)
    batch_rows: int
    again: bool = False


class Resumes(msgspec.Struct, frozen=True, tag=True):
    """An interrupted replay goes on, which began then; so many pairs are there."""

    began_at: datetime
    pairs: int


class Going(msgspec.Struct, frozen=True, tag=True):
    """How far it is."""

    progress: Progress


class Done(msgspec.Struct, frozen=True, tag=True):
    """It is at its end."""

    report: Report


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It cannot go on; what was saved stays."""

    why: str


Told: TypeAlias = Resumes | Going | Done | Failed


def replayed(task: Task, tell: Callable[[Resumes | Going], None]) -> Report:
    """The report of a replay that runs in a process of its own; `tell` hears how it goes. Raises JobFailed."""
    decoder = msgspec.json.Decoder(Told)
    with (
        subprocess.Popen(
            [sys.executable, "-m", "penstock.controller.replay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment_for_child(**dict.fromkeys(_THREADS, "1")),
        ) as process,
        _ended(process),
    ):
        if process.stdin is None or process.stdout is None:
            raise JobFailed("the replay's process has no pipes")
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            told = decoder.decode(line)
            if isinstance(told, Done):
                return told.report
            if isinstance(told, Failed):
                raise JobFailed(told.why)
            tell(told)
        code = process.wait()
    fate = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
    raise JobFailed(f"the process of the replay {fate}. Ask again, and it goes on where it was; --again begins anew")


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process ends with the block, however that ends: with its input it has nobody to replay for."""
    try:
        yield
    finally:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def replay(task: Task, tell: Callable[[Told], None]) -> Report:
    """Load and replay, here. Raises PenstockError."""
    home, settings = Path(task.settings.home), task.settings
    one_thread = msgspec.structs.replace(settings.server, workers=1 << 16)
    with alone(home, task.question):
        model = load_model(Path(task.path), task.question.version, msgspec.structs.replace(settings, server=one_thread))
        job = Replay(
            home,
            task.question,
            model,
            moments=task.moments,
            sealed_lines=sealed_lines,
            batch_rows=task.batch_rows,
            again=task.again,
        )
        if job.resumed_at is not None:
            tell(Resumes(job.resumed_at, job.pairs))
        return job.run(lambda progress: tell(Going(progress)))


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Replay as the line on standard input says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the whole group; who started this ends it
    os.nice(_NICE)  # what serves comes first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    answer = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no message
    threading.Thread(target=_end_with_input, daemon=True).start()

    def tell(told: Told) -> None:
        answer.write(msgspec.json.encode(told) + b"\n")

    try:
        tell(Done(replay(task, tell)))
    except PenstockError as error:
        tell(Failed(str(error)))
    except Exception as error:  # the edge of the process: a library's own error must reach the operator
        tell(Failed(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"))
    os._exit(0)  # a library's threads must not keep it


if __name__ == "__main__":
    main()
