"""Rows from files: training tables for packing, and rows to predict for the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.errors import MissingExtra, PenstockError, Unreadable

if TYPE_CHECKING:
    import pandas as pd

STDIN = Path("-")


def read_table(path: Path) -> pd.DataFrame:
    """A table from .csv, .parquet or .jsonl. In a CSV only an empty cell is missing: "None" and "NA" stay texts.

    Raises Unreadable for another ending or content, MissingExtra without pandas, OSError.
    """
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtra("pandas", "pack", f"reading {path.name}") from None
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, keep_default_na=False, na_values=[""])
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".jsonl":
            return pd.DataFrame(_json_lines(path.read_bytes(), path.name))
    except ImportError:
        raise MissingExtra("pyarrow", "arrow", f"reading {path.name}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path}: {error}") from error
    raise Unreadable(f"{path}: expected a file that ends in .csv, .parquet or .jsonl")


def split_target(
    table: pd.DataFrame, target: str | None, *, required: bool = False
) -> tuple[pd.DataFrame, pd.Series[Any] | None]:
    """The table without the target's column, and that column. Raises PenstockError if it is required and missing."""
    if target is None or target not in table.columns:
        if required:
            known = ", ".join(str(name) for name in table.columns[:10])
            raise PenstockError(f"the holdout needs its target: say --target with one of its columns ({known})")
        return table, None
    return table.drop(columns=[target]), table[target]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows to predict, from .json (one object or a list), .jsonl, .csv or .parquet; `-` is JSON on standard input."""
    if path == STDIN:
        return _json_rows(sys.stdin.buffer.read(), "standard input")
    if path.suffix == ".json":
        return _json_rows(path.read_bytes(), path.name)
    if path.suffix == ".jsonl":
        return _json_lines(path.read_bytes(), path.name)
    return [{str(name): value for name, value in row.items()} for row in read_table(path).to_dict("records")]


def _json_rows(data: bytes, name: str) -> list[dict[str, Any]]:
    try:
        rows = msgspec.json.decode(data)
        return msgspec.convert(rows if isinstance(rows, list) else [rows], list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"{name}: expected a JSON object, or a list of them: {error}") from error


def _json_lines(data: bytes, name: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(msgspec.json.decode(line, type=dict[str, Any]))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Unreadable(f"{name}, line {number}: {error}") from error
    return rows
