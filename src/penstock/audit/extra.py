"""The extra `audit`, whose libraries read and seal the log: whether they are there, and what loads them only in use."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.errors import MissingExtra

if TYPE_CHECKING:
    from penstock.audit.sealed import SealedSegment


def require_audit(purpose: str) -> None:
    """Raise MissingExtra, saying what for, unless DuckDB and pyarrow are installed."""
    for library in ("duckdb", "pyarrow"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtra(library, "audit", purpose)


def sealed_lines(audit: Path, entry: SealedSegment, after: int) -> Iterator[tuple[int, bytes]]:
    """As `penstock.audit.sealed_lines`, loaded once a sealed segment is really met. Raises MissingExtra as well."""
    require_audit("reading what is sealed of the audit log")
    lines: Iterator[tuple[int, bytes]]
    lines = importlib.import_module("penstock.audit.sealed_lines").sealed_lines(audit, entry, after)
    return lines
