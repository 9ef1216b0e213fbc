"""`audit training-set`: rows as they were served, with what came true of them, for `pack --sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.asking import Config, Home, Name, by
from penstock.cli.screen import console, progress


def training_set(
    *,
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file: .jsonl or .parquet.")],
    target: Annotated[str, typer.Option(help="What the column with what came true is called.")] = "actual",
    ids: Annotated[
        bool, typer.Option("--ids", help="Also `request_id`, `row`, `request_time` and `model_version`.")
    ] = False,
    home: Home = None,
    config: Config = None,
) -> None:
    """Write the rows of a model as they were really served, each with what came true of it, the latest statement.

    Example: `penstock audit training-set churn served.jsonl --target left`;
    then `penstock pack model.skops --name churn --sample served.jsonl --target left`
    """
    from penstock.audit.conditions import Conditions
    from penstock.audit.extra import require_audit
    from penstock.controller.exporting import registered
    from penstock.settings import from_environment

    if file.suffix not in (".jsonl", ".parquet") or file.exists():
        raise typer.BadParameter("name a new file that ends in .jsonl or .parquet", param_hint="FILE")
    require_audit("reading what is sealed of the audit log")
    from penstock.audit.export import write_rows
    from penstock.audit.sealed_lines import sealed_lines
    from penstock.audit.training import TrainingRow, TrainingSet

    def row_of(row: TrainingRow) -> dict[str, Any]:
        about = {
            "request_id": row.request_id,
            "row": row.index,
            "request_time": row.at,
            "model_version": row.version,
        }
        return {**(about if ids else {}), **row.features, target: row.actual}

    settings = from_environment(flags={} if home is None else {"home": home}, file=config).settings
    training = TrainingSet(Path(settings.home) / "audit", name, sealed_lines)
    partial = file.with_name(f".{file.name}.partial")
    try:
        with registered(settings, file, Conditions(model=name), by(None)) as made, progress(quiet=False) as step:
            step("reading")
            count = write_rows(map(row_of, training.rows()), partial, file.suffix)
            partial.replace(file)
            made.lines = count
    finally:
        partial.unlink(missing_ok=True)
    screen = console()
    screen.print(f"{count:,} rows in {file}", markup=False)
    for number, what in (
        (training.without_features, "labelled rows have no features: the policy kept none, or they were erased"),
        (training.unlisted, "labelled rows have a label that no served model knew, so it was not kept"),
        (len(training.unknown), "statements of feedback found no row in this log"),
    ):
        if number:
            screen.print(f"{number:,} {what}", markup=False)
