"""Which events each webhook has yet to hear of: rows of `deliveries`, made of the events when they are first asked for.

The events are the queue itself, so nothing that was appended can be missed; a row says how far its delivery has come.
The newest row of a receiver says up to which event it is listed, its first one where it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, Row, and_, func, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

from penstock.control.changes import Event
from penstock.control.tables import DELIVERIES, EVENTS, microseconds


class Delivery(msgspec.Struct, frozen=True):
    """An event that `receiver` is to be told of, for the `attempts`-th time."""

    event: Event
    receiver: str
    attempts: int


def enlist(connection: Connection, receiver: str, at: datetime) -> None:
    """List the events since the last time; at the very first, none but a row that says where the receiver began."""
    listed = select(func.max(DELIVERIES.c.revision)).where(DELIVERIES.c.receiver == receiver)
    last = connection.execute(listed).scalar()
    columns = ["receiver", "attempts", "next_at", "revision"]
    now = literal(microseconds(at), BigInteger)
    common = (literal(receiver), literal(0), now)
    if last is None:
        columns.append("delivered_at")
        rows = select(*common, func.coalesce(func.max(EVENTS.c.revision), 0), now).where(EVENTS.c.revision > 0)
    else:
        rows = select(*common, EVENTS.c.revision).where(EVENTS.c.revision > last)
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    connection.execute(insert(DELIVERIES).from_select(columns, rows).on_conflict_do_nothing())


def claim(
    connection: Connection, receiver: str, at: datetime, *, leased_until: datetime, limit: int
) -> Sequence[Row[Any]]:
    """Rows of events that are due, with their `attempts` so far, and nobody else's until `leased_until`."""
    due = and_(
        DELIVERIES.c.receiver == receiver, DELIVERIES.c.delivered_at.is_(None), DELIVERIES.c.next_at <= microseconds(at)
    )
    wanted = (
        select(EVENTS, DELIVERIES.c.attempts)
        .join(DELIVERIES, DELIVERIES.c.revision == EVENTS.c.revision)
        .where(due)
        .order_by(EVENTS.c.revision)
        .limit(limit)
        .with_for_update(of=DELIVERIES, skip_locked=True)
    )
    found = connection.execute(wanted).all()
    if found:
        taken = DELIVERIES.c.revision.in_([row.revision for row in found])
        connection.execute(
            update(DELIVERIES)
            .where(due, taken)
            .values(attempts=DELIVERIES.c.attempts + 1, next_at=microseconds(leased_until))
        )
    return found


def settle(connection: Connection, revision: int, receiver: str, **values: Any) -> None:
    """How a delivery ended."""
    which = (DELIVERIES.c.receiver == receiver, DELIVERIES.c.revision == revision)
    connection.execute(update(DELIVERIES).where(*which).values(**values))
