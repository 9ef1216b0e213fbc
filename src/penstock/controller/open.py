"""The commands' way in: the running controller's operations, or their own under the lock of the home."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from penstock.controller.assemble import control_plane
from penstock.controller.lock import AGAIN_S, LOCK_FILE, Address, answering, locked
from penstock.controller.operations import Operations
from penstock.controller.remote import RemoteOperations
from penstock.errors import ControlError
from penstock.settings import Settings

_WAIT_S: Final = 30.0


@contextlib.contextmanager
def operations_of(settings: Settings, *, url: str | None = None, wait_s: float = _WAIT_S) -> Iterator[Operations]:
    """What an operator can do: at `url`, or else with the controller of the home if one runs, or else here.

    Another command that is at work in the home is waited for, up to `wait_s`. Raises ControlError, SettingsError and
    MissingExtra.
    """
    home = Path(settings.home)
    with contextlib.ExitStack() as stack:
        if url is None:
            found = _ours_or_theirs(home, stack, wait_s)
            if found is None:
                yield stack.enter_context(control_plane(settings)).operations
                return
            url = found.url
        yield stack.enter_context(contextlib.closing(RemoteOperations(url)))


def _ours_or_theirs(home: Path, stack: contextlib.ExitStack, wait_s: float) -> Address | None:
    """Where the controller of `home` answers; None with the lock held in `stack`. Raises ControlError."""
    until_s = time.monotonic() + wait_s
    while time.monotonic() < until_s:
        attempt = contextlib.ExitStack()
        if attempt.enter_context(locked(home)):
            stack.enter_context(attempt)
            return None
        attempt.close()
        address = answering(home)
        if address is not None:
            return address
        time.sleep(AGAIN_S)
    raise ControlError(
        f"another process has held {home / LOCK_FILE} for {wait_s:.0f} s and does not say where it answers: wait until "
        "the other command has ended, or name the controller with --url"
    )
