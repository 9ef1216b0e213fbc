"""What was taken up by itself before, so that a restart does not do it again."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec


class Seen:
    """Texts by name, kept in a file that is replaced at once. Thread-safe; one process at a time writes it.

    It saves work: without it what is watched is looked at again, and found to be there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._texts: dict[str, str] | None = None

    def has(self, name: str, text: str) -> bool:
        """Whether `text` was the last one noted under `name`."""
        with self._lock:
            return self._read().get(name) == text

    def note(self, name: str, text: str) -> None:
        """Note `text` under `name`, in place of what was. Raises OSError; then it is known until this process ends."""
        with self._lock:
            self._texts = texts = {**self._read(), name: text}
            draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(texts, order="sorted")) + b"\n")
            draft.replace(self._path)

    def _read(self) -> dict[str, str]:
        if self._texts is None:
            try:
                self._texts = msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
            except (OSError, msgspec.DecodeError):
                self._texts = {}
        return self._texts
