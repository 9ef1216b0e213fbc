"""Where this folder is on PYTHONPATH every Python begins with this: a controller dies, by SIGKILL, just before and just
after each event of a rollout, once each. What it died of is a file in `deaths` below the working directory; nothing is
done where that is not there. The supervisor does not wait longer from death to death.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

_LINE = Path("/proc/self/cmdline").read_bytes()


def _die(what: str) -> None:
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        (Path("deaths") / what).touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


def _make_mortal() -> None:
    from penstock.control.changes import Event, Rolled
    from penstock.control.sql_store import SqlStore

    append = SqlStore.append

    def dying(self: SqlStore, events: Sequence[Event]) -> None:
        rolled = [f"{one.what}-{one.stage}-{one.step}" for one in (e.change for e in events) if isinstance(one, Rolled)]
        for what in rolled:
            _die(f"before-{what}")
        append(self, events)
        for what in rolled:
            _die(f"after-{what}")

    SqlStore.append = dying  # type: ignore[method-assign]


if b"penstock.controller.process" in _LINE:
    _make_mortal()
elif b"penstock\x00serve\x00" in _LINE:
    from penstock.workers import spawn

    spawn._BACK_OFF_S = (0.05,)  # type: ignore[assignment]
