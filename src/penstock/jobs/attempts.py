"""What a process was scoring when it died: kept in a file that outlives it, and judged by the next life."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from penstock.audit.position import Mark

DEATHS: Final = 2
"""After so many deaths over the same records these are scored one by one."""

_WIDTH: Final = 120
_IDLE: Final = b" " * _WIDTH


class Spot(msgspec.Struct, frozen=True):
    """The records `first`..`last` of a run of a worker, over which a process died `deaths` times."""

    run: str
    first: int
    last: int
    deaths: int = 1

    def has(self, run: str, seq: int) -> bool:
        """Whether a record is one of them."""
        return run == self.run and self.first <= seq <= self.last


class Attempt:
    """The file that says what is being scored. One process's; a death leaves it as it was."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def left(self) -> Spot | None:
        """What the life before was scoring when it died; None if it was not."""
        words = os.pread(self._fd, _WIDTH, 0).split()
        return Spot(words[0].decode(), int(words[1]), int(words[2])) if len(words) == 3 else None

    def begin(self, run: str, first: int, last: int) -> None:
        """These are scored from now on."""
        os.pwrite(self._fd, (b"%s %d %d" % (run.encode(), first, last)).ljust(_WIDTH), 0)

    def end(self) -> None:
        """Nothing is."""
        os.pwrite(self._fd, _IDLE, 0)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)


class Suspects(msgspec.Struct, frozen=True):
    """Over which records processes died. Pure."""

    spots: tuple[Spot, ...] = ()

    def after(self, left: Spot) -> Self:
        """With one death more."""
        known = next((spot for spot in self.spots if _place(spot) == _place(left)), None)
        others = tuple(spot for spot in self.spots if spot is not known)
        deaths = 1 if known is None else known.deaths + 1
        return type(self)((*others, msgspec.structs.replace(left, deaths=deaths)))

    def is_alone(self, run: str, seq: int) -> bool:
        """Whether a record is to be scored by itself."""
        return any(spot.deaths >= DEATHS and spot.has(run, seq) for spot in self.spots)

    def is_deadly(self, run: str, seq: int) -> bool:
        """Whether a record is to be passed: it killed a process that scored it alone."""
        own = next((spot for spot in self.spots if _place(spot) == (run, seq, seq)), None)
        if own is None:
            return False
        wider = (spot for spot in self.spots if spot is not own)
        return own.deaths >= DEATHS or any(spot.deaths >= DEATHS and spot.has(run, seq) for spot in wider)

    def behind(self, marks: Mapping[str, Mark]) -> Self:
        """Without those that were passed."""
        return type(self)(tuple(spot for spot in self.spots if not _is_passed(spot, marks)))


def _place(spot: Spot) -> tuple[str, int, int]:
    return spot.run, spot.first, spot.last


def _is_passed(spot: Spot, marks: Mapping[str, Mark]) -> bool:
    return spot.run in marks and marks[spot.run].seq >= spot.last
