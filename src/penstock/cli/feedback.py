"""`feedback`: what came true of predictions, out of a file, to a server."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.asking import Json, Name
from penstock.cli.screen import console, print_json, progress

_OPTIONAL = ("index", "at")


def feedback(
    *,
    name: Name,
    file: Annotated[Path, typer.Argument(help="What came true: .csv, .jsonl, .json or .parquet.")],
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8080",
    id: Annotated[str, typer.Option("--id", help="The column with the request ids of the answers.")] = "request_id",
    key: Annotated[str | None, typer.Option(help="In place of ids: the column with the keys of the calls.")] = None,
    actual: Annotated[str, typer.Option(help="The column with what came true.")] = "actual",
    text: Annotated[bool, typer.Option("--text", help='In a CSV, take "1" and "true" as texts, too.')] = False,
    json: Json = False,
) -> None:
    """Tell a server what came true of its predictions. Columns `index` (the row of a call) and `at` (since when it is
    known) are taken where they are. What was told before may be told again: the latest counts.

    Example: `penstock feedback churn labels.csv`; `penstock feedback churn labels.parquet --key customer --actual left`
    """
    from penstock.client import Client

    with progress(quiet=json) as step:
        step("reading")
        rows = _read(file, None if text else actual)
        means, column = ("request_id", id) if key is None else ("key", key)
        statements = [
            _statement(row, {means: column, "actual": actual}, where=f"{file}, row {number}")
            for number, row in enumerate(rows, start=1)
        ]
        if key is not None:
            statements = [{**one, "model": name} for one in statements]
        step(f"sending {len(statements):,}")
        with Client(url, timeout_s=60.0) as client:
            client.model(name)
            taken = client.feedback_many(statements)
    if json:
        print_json(taken)
        return
    console().print(f"taken {taken.taken:,} of {len(statements):,}")
    if taken.unlisted:
        console().print(f"of {taken.unlisted:,} the label is none that a served model knows; it is not kept")


def _read(file: Path, numbers: str | None) -> list[dict[str, Any]]:
    """The rows of a file; of a CSV texts, but for those in the column `numbers` that are something else."""
    from penstock.bundle.tables import read_rows

    if file.suffix != ".csv":
        return read_rows(file)
    with file.open(newline="", encoding="utf-8-sig") as lines:
        return [
            {name: _cell(cell) if name == numbers else cell for name, cell in row.items() if cell and name}
            for row in csv.DictReader(lines)
        ]


def _cell(text: str) -> bool | int | float | str:
    """A number or a truth value where it is written as one; "007" and "1_000" are texts."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if kind is float or str(value) == text:
            return value if value - value == 0 and "_" not in text else text
        return text
    return text


def _statement(row: Mapping[str, Any], columns: Mapping[str, str], *, where: str) -> dict[str, Any]:
    """The statement of a row. Raises Unreadable for a missing cell."""
    from penstock.errors import Unreadable

    found: dict[str, Any] = {}
    for name, column in columns.items():
        value = row.get(column)
        if value is None or value != value:
            raise Unreadable(f"{where}: expected a value in the column {column}, got none. It has {', '.join(row)}")
        found[name] = value if name == "actual" else str(value)
    for name in _OPTIONAL:
        value = row.get(name)
        if value is not None and value == value:
            found[name] = int(value) if name == "index" else value
    return found
