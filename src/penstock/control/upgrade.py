"""Brings the tables of the state to the form that this Penstock works with, or says that they are of a newer one."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from penstock.errors import StateUnavailable

_VERSION_TABLE: Final = "penstock_version"  # Alembic's own name for it is taken where MLflow has the same database
_STEPS: Final = Path(__file__).parent / "migrations"
_LOCK_KEY: Final = 0x70656E73746F636B  # "penstock"
_ALEMBIC: Final = threading.Lock()  # its `op` and `context` are the process's


def is_up_to_date(connection: Connection) -> bool:
    """Whether the tables are of this Penstock. Raises StateUnavailable if they are of a newer one."""
    config = _config(connection)
    script = ScriptDirectory.from_config(config)
    version = MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE}).get_current_revision()
    if version is not None and version not in {step.revision for step in script.walk_revisions()}:
        raise StateUnavailable(
            f"the state is of a newer Penstock (step {version!r}; this one knows up to {script.get_current_head()!r}): "
            "use that one, or restore a backup from before it"
        )
    return version == script.get_current_head()


def upgrade(connection: Connection) -> None:
    """Take the steps that are missing, within the connection's transaction; of several processes one does.

    Raises StateUnavailable if the tables are of a newer Penstock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    if not is_up_to_date(connection):
        with _ALEMBIC:
            command.upgrade(_config(connection), "head")


def version_of(connection: Connection) -> str | None:
    """The last step that the tables were brought to."""
    return connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()


def _config(connection: Connection) -> Config:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of each look
    config = Config(attributes={"connection": connection, "version_table": _VERSION_TABLE})
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    return config
