"""A segment that is locked: nobody else's, and still the one at its path."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.audit.segment import held


def test_it_is_locked_while_the_block_runs(tmp_path: Path) -> None:
    """Another who asks meanwhile gets None, and afterwards the file."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"line\n")
    with held(path) as file, held(path) as other:
        assert file is not None and other is None
        assert b"line\n" == file.read()
    with held(path) as file:
        assert file is not None


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.with_suffix(".fresh").replace(path)])
def test_one_that_was_sealed_or_rewritten_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    """What was removed or replaced between being opened and being locked is not written again under its name."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"old\n")
    path.with_suffix(".fresh").write_bytes(b"new\n")
    lock = fcntl.flock

    def late(file: int, operation: int) -> None:
        change(path)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with held(path) as file:
        assert file is None
