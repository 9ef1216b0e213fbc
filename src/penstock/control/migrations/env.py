"""What Alembic runs for each upgrade, and nothing imports: on the connection, in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

context.configure(**context.config.attributes)
with context.begin_transaction():
    context.run_migrations()
