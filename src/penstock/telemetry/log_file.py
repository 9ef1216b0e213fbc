"""A log file that several processes append to and rotate, without a line lost.

A line is one append, so lines of different processes never mix. Whoever finds the file full locks it (the lock is on
the file itself and is never waited for), moves it aside and begins another; the others find a new file under the name
at their next line. A line on its way into the file just moved is in that one.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

_MODE = 0o640
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class RotatedLines(logging.Handler):
    """Writes lines to `path`; at `max_bytes` it becomes `path.1`, that one `path.2`, and so on up to `backups`.

    Thread-safe, as every logging.Handler. Raises OSError if the file cannot be made.
    """

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        super().__init__()
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._file = os.open(path, _FLAGS, _MODE)

    def emit(self, record: logging.LogRecord) -> None:
        """Append the line of `record`."""
        try:
            self._append(self.format(record).encode(errors="backslashreplace") + b"\n")
        except Exception:  # the edge of logging: a full disk must not fail what is logged about
            self.handleError(record)

    def close(self) -> None:
        """Give the file back."""
        self.acquire()
        try:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1
        finally:
            self.release()
        super().close()

    def _append(self, line: bytes) -> None:
        if not self._is_current():
            self._open_again()
        size_bytes = os.fstat(self._file).st_size
        if size_bytes and size_bytes + len(line) > self._max_bytes:
            self._rotate()
        os.write(self._file, line)

    def _is_current(self) -> bool:
        """Whether the open file is still the one under the name: no other process has moved it, nor a user."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _open_again(self) -> None:
        fresh = os.open(self._path, _FLAGS, _MODE)
        os.close(self._file)
        self._file = fresh

    def _rotate(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process is at it: the file grows by this line
        # Between the look at its size and the lock another process may have moved it.
        if self._is_current():
            for number in range(self._backups - 1, 0, -1):
                if (older := self._numbered(number)).exists():
                    older.replace(self._numbered(number + 1))
            self._path.replace(self._numbered(1))
        self._open_again()  # the lock goes with the file that is closed

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
