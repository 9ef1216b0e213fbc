"""Whether the libraries that read and seal the log are there: the extra `audit`. Loads none of them."""

from __future__ import annotations

import importlib.util

from penstock.errors import MissingExtra


def require_audit(purpose: str) -> None:
    """Raise MissingExtra, saying what for, unless DuckDB and pyarrow are installed."""
    for library in ("duckdb", "pyarrow"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtra(library, "audit", purpose)
