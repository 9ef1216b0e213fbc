"""A storm of equal events, summarised: the first of them are told, then one line a window says how many came. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)


class Summary(msgspec.Struct, Generic[K], frozen=True):
    """How many equal events came in a window and were not told; `last` is what the last of them said of itself."""

    key: K
    untold: int
    window_s: float
    last: str


class _Window:
    __slots__ = ("ends_s", "last", "left", "untold")

    def __init__(self, ends_s: float, left: int) -> None:
        self.ends_s = ends_s
        self.left = left
        self.untold = 0
        self.last = ""


class Storm(Generic[K]):
    """Decides which of many events are told. `clock` gives seconds that never go back.

    Of equal events `first` are told in a window of `window_s`; the rest are counted. A window with untold events is
    followed by one in which none is told, until a window passes in which none came. Not thread-safe.
    """

    def __init__(self, *, clock: Callable[[], float], first: int = 5, window_s: float = 60.0) -> None:
        self._clock = clock
        self._first = first
        self._window_s = window_s
        self._windows: dict[K, _Window] = {}

    def is_told(self, key: K, last: str) -> bool:
        """Whether this event is to be told; if not, it is counted, with `last` for the summary."""
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(self._clock() + self._window_s, self._first)
        if window.left:
            window.left -= 1
            return True
        window.untold += 1
        window.last = last
        return False

    @property
    def due_s(self) -> float | None:
        """Seconds until `summaries` has to be asked next; None while nothing has happened."""
        ends_s = min((window.ends_s for window in self._windows.values()), default=None)
        return None if ends_s is None else max(0.0, ends_s - self._clock())

    def summaries(self, *, is_end: bool = False) -> list[Summary[K]]:
        """What the windows that are over (at the end, all) left untold; each is told once."""
        now_s = self._clock()
        found: list[Summary[K]] = []
        for key, window in list(self._windows.items()):
            if not is_end and now_s < window.ends_s:
                continue
            del self._windows[key]
            if window.untold:
                took_s = self._window_s - max(0.0, window.ends_s - now_s)
                found.append(Summary(key, window.untold, took_s, window.last))
                self._windows[key] = _Window(now_s + self._window_s, 0)
        return found
