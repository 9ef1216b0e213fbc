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

LOCK_FILE: Final = "control.lock"
ADDRESS_FILE: Final = "control.json"
AGAIN_S: Final = 0.05


class Address(msgspec.Struct, frozen=True):
    """Where the controller that holds the lock answers, its process id, and that of the server that it belongs to."""

    url: str
    pid: int
    server_pid: int


@contextlib.contextmanager
def locked(home: Path, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the lock of `home`, which is made if it is not there; False where another process still holds it in the end:
    at once, if that is the controller of a server that runs.
    """
    until_s = time.monotonic() + wait_s
    home.mkdir(parents=True, exist_ok=True)
    handle = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not (is_ours := _taken(handle)) and time.monotonic() < until_s and answering(home) is None:
            time.sleep(AGAIN_S)
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


def remove_address(home: Path) -> None:
    """Say that no controller answers any more; only whoever holds the lock does."""
    (home / ADDRESS_FILE).unlink(missing_ok=True)


def answering(home: Path) -> Address | None:
    """Where the controller of `home` answers; None if there is none, or if it or its server has ended."""
    try:
        address = msgspec.json.decode((home / ADDRESS_FILE).read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError):
        return None
    return address if _is_alive(address.pid) and _is_alive(address.server_pid) else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
