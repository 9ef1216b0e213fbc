"""Events, which only grow, and the deliveries of them to webhooks.

The triggers say in the database what the program keeps to: revisions without a gap, times that run forward, no event
altered or removed.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None

_FOLLOWS: Final = "an event follows the last one in revision and in time"
_STAYS: Final = "events are never altered and never removed"

_SQLITE: Final = (
    f"""
    CREATE TRIGGER events_follow BEFORE INSERT ON events
    WHEN NEW.revision <> (SELECT coalesce(max(revision), 0) + 1 FROM events)
        OR NEW.at <= (SELECT at FROM events WHERE revision = NEW.revision - 1)
    BEGIN SELECT RAISE(ABORT, '{_FOLLOWS}'); END
    """,
    f"CREATE TRIGGER events_unaltered BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, '{_STAYS}'); END",
    f"CREATE TRIGGER events_unremoved BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, '{_STAYS}'); END",
)

# A revision that is taken is left to the primary key, which waits for a writer that has not yet committed.
_POSTGRESQL: Final = (
    f"""
    CREATE FUNCTION penstock_event_follows() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.revision > (SELECT coalesce(max(revision), 0) + 1 FROM events)
            OR NEW.at <= (SELECT at FROM events WHERE revision = NEW.revision - 1) THEN
            RAISE EXCEPTION '{_FOLLOWS}' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$
    """,
    f"""
    CREATE FUNCTION penstock_event_stays() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '{_STAYS}' USING ERRCODE = 'integrity_constraint_violation';
    END $$
    """,
    """
    CREATE TRIGGER events_follow BEFORE INSERT ON events
    FOR EACH ROW EXECUTE FUNCTION penstock_event_follows()
    """,
    """
    CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION penstock_event_stays()
    """,
    """
    CREATE TRIGGER events_unemptied BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION penstock_event_stays()
    """,
)


def upgrade() -> None:
    """Make both tables."""
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "events",
        sa.Column("revision", big, sa.CheckConstraint("revision > 0"), primary_key=True, autoincrement=False),
        sa.Column("at", big, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("is_verified", sa.Boolean, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("change", sa.Text, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("receiver", sa.Text, primary_key=True),
        sa.Column("revision", big, primary_key=True, autoincrement=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", big, nullable=False),
        sa.Column("delivered_at", big),
        sa.Column("last_error", sa.Text),
    )
    pending = sa.text("delivered_at IS NULL")
    op.create_index(
        "deliveries_due", "deliveries", ["receiver", "next_at"], postgresql_where=pending, sqlite_where=pending
    )
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL:
        op.execute(statement)
