"""Who may change a home: one process at a time, the controller or a command. The lock ends with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from penstock.errors import ControlError

LOCK_FILE: Final = "control.lock"
ADDRESS_FILE: Final = "control.json"
_AGAIN_S: Final = 0.05


class Address(msgspec.Struct, frozen=True):
    """Where the controller that holds the lock answers, and its process id."""

    url: str
    pid: int


@contextlib.contextmanager
def locked(home: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock of `home`, which is made if it is not there; False where another process still holds it in the end."""
    until_s = time.monotonic() + wait_s
    home.mkdir(parents=True, exist_ok=True)
    handle = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not (is_ours := _taken(handle)) and time.monotonic() < until_s:
            time.sleep(_AGAIN_S)
        yield is_ours
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_address(home: Path, address: Address) -> None:
    """Say where the controller answers; only whoever holds the lock does."""
    partial = home / f"{ADDRESS_FILE}.{os.getpid()}"
    partial.write_bytes(msgspec.json.encode(address))
    partial.replace(home / ADDRESS_FILE)


def read_address(home: Path) -> Address:
    """Where the controller of `home` answers. Raises ControlError if it does not say."""
    try:
        return msgspec.json.decode((home / ADDRESS_FILE).read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError) as error:
        raise ControlError(
            f"another process holds {home / LOCK_FILE} and does not say where it answers: wait until the other command "
            "has ended, or the server has started"
        ) from error
