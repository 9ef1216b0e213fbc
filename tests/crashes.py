"""Crashes at chosen steps of work on files: what a `kill -9` leaves is what the exception leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class Crash(BaseException):
    """What a `kill -9` is to the code: nothing after it runs, and nothing catches it."""


def crash_at(step: int) -> Callable[[str], None]:
    """A hook that ends everything at the `step`th step."""
    left = iter(range(step))

    def hook(what: str) -> None:
        if next(left, None) is None:
            raise Crash(what)

    return hook


def steps_of(audit: Path, work: Callable[[Path, Callable[[str], None]], object]) -> int:
    """How many steps `work` has."""
    told: list[str] = []
    work(audit, told.append)
    return len(told)
