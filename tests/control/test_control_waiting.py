"""Many who ask for the state while its database answers nothing."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from states import control_of

from loads import wait_for
from penstock.control.changes import Event
from penstock.control.control import Control
from penstock.errors import StateUnavailable
from penstock.testing.memory_store import MemoryStore

CALLERS = 8


class Hanging(MemoryStore):
    """Events that cannot be read before `go`, and then not, while `is_away`; `asked` counts the attempts."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.is_away = True
        self.asked = 0

    def since(self, revision: int) -> list[Event]:
        self.asked += 1
        self.go.wait(60)
        if self.is_away:
            raise StateUnavailable("no answer in time")
        return super().since(revision)


def failed(ask: Callable[[], object]) -> str:
    with pytest.raises(StateUnavailable) as caught:
        ask()
    return str(caught.value)


def waiting() -> int:
    """How many threads stand at the lock of `Control.state`."""
    lines, first = inspect.getsourcelines(Control.state)
    [lock] = [first + place for place, line in enumerate(lines) if "with self._lock" in line]
    code = Control.state.__code__
    return sum(frame.f_code is code and frame.f_lineno == lock for frame in sys._current_frames().values())


def test_one_waits_for_all() -> None:
    """Who waits behind one that finds the database away is told so with it; who asks later tries for themselves."""
    store = Hanging()
    control = control_of(store)
    with ThreadPoolExecutor(CALLERS + 1) as callers:
        first = callers.submit(failed, control.state)
        wait_for(lambda: store.asked == 1, "the first one asks")
        others = [callers.submit(failed, control.state) for _ in range(CALLERS)]
        wait_for(lambda: waiting() == CALLERS, "the others wait behind it")
        store.go.set()
        assert {"no answer in time"} == {first.result(60), *(other.result(60) for other in others)}
    assert 1 == store.asked
    assert "no answer in time" == failed(control.events)
    assert 2 == store.asked
    store.is_away = False
    assert {} == control.state().models
