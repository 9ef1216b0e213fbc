"""Which events each receiver has yet to be told of: kept beside the events, so that none is lost with a process.

Nothing is written when an event is appended: what a receiver is owed follows from the events themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

import msgspec

from penstock.control.changes import Event


class Delivery(msgspec.Struct, frozen=True):
    """An event that a receiver is to be told of; `attempts` have failed already."""

    receiver: str
    event: Event
    attempts: int = 0


class Outbox(Protocol):
    """What is owed to whom. Thread-safe; of several processes each delivery is claimed by one."""

    def deliveries_due(
        self, receiver: str, kinds: Collection[str], *, now: datetime, until: datetime, limit: int = 1
    ) -> list[Delivery]:
        """The oldest deliveries that are due `now`, at most `limit`, claimed: not due again before `until`.

        A receiver is owed every event of `kinds` (all, where it is empty) that came after it was first asked for here;
        none that was there before. Raises StateUnavailable.
        """
        ...

    def delivered(self, delivery: Delivery, at: datetime) -> None:
        """It was taken, and is owed no longer. Raises StateUnavailable."""
        ...

    def failed(self, delivery: Delivery, why: str, again_at: datetime) -> None:
        """It was not taken: it is due again at `again_at`, with one attempt more. Raises StateUnavailable."""
        ...
