"""Operations off the event loop: looks and changes have threads of their own, so a deploy that waits blocks no look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from penstock.errors import Overloaded

T = TypeVar("T")

LOOKS: Final = 8
CHANGES: Final = 16


class Threads:
    """One per API. A look waits for its turn; a change beyond those that may be under way is refused."""

    def __init__(self) -> None:
        self._looks = anyio.CapacityLimiter(LOOKS)
        self._changes = anyio.CapacityLimiter(CHANGES)

    async def look(self, function: Callable[[], T]) -> T:
        """What `function` gives."""
        return await anyio.to_thread.run_sync(function, limiter=self._looks)

    async def change(self, function: Callable[[], T]) -> T:
        """What `function` gives; once begun it runs to its end, also when the caller hangs up. Raises Overloaded."""
        if self._changes.available_tokens < 1:
            raise Overloaded(f"{CHANGES} changes are under way, as many as may be: try again when one has ended")
        return await anyio.to_thread.run_sync(function, limiter=self._changes)
