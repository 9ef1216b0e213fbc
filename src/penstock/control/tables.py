"""The tables of the state, as the newest migration leaves them; `migrations/` has how they came to be so.

Times are microseconds since 1970 in UTC. Events are never altered and never removed: triggers refuse it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text, text

METADATA: Final = MetaData()

_BIG: Final = BigInteger().with_variant(Integer, "sqlite")

EVENTS: Final = Table(
    "events",
    METADATA,
    Column("revision", _BIG, primary_key=True, autoincrement=False),
    Column("at", _BIG, nullable=False),
    Column("who", Text, nullable=False),
    Column("is_verified", Boolean, nullable=False),
    Column("kind", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("reason", Text),
    Column("change", Text, nullable=False),
)

DELIVERIES: Final = Table(
    "deliveries",
    METADATA,
    Column("receiver", Text, primary_key=True),
    Column("revision", _BIG, primary_key=True, autoincrement=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", _BIG, nullable=False),
    Column("delivered_at", _BIG),
    Column("last_error", Text),
    Index(
        "deliveries_due",
        "receiver",
        "next_at",
        postgresql_where=text("delivered_at IS NULL"),
        sqlite_where=text("delivered_at IS NULL"),
    ),
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """A moment as the tables have it."""
    return (at - _EPOCH) // _TICK


def moment(at_us: int) -> datetime:
    """What the tables have as a moment, in UTC."""
    return _EPOCH + at_us * _TICK
