"""`predict`: ask a server, or a bundle directly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.screen import print_json, print_table

if TYPE_CHECKING:
    from penstock.schema.prediction import Prediction


def predict(
    *,
    model: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or with --bundle the bundle itself.")],
    rows: Annotated[Path, typer.Argument(help="The rows: .json, .jsonl, .csv or .parquet; - reads JSON from stdin.")],
    url: Annotated[str, typer.Option(help="The server.")] = "http://127.0.0.1:8080",
    bundle: Annotated[bool, typer.Option("--bundle", help="NAME is the path of a bundle; no server is asked.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """Predictions for rows of a file. Exits 1 when a row breaks the schema, naming every place.

    Example: `penstock predict churn rows.json`; `echo '[{"age": 31}]' | penstock predict churn -`
    """
    from penstock.bundle.tables import read_rows

    found = read_rows(rows)
    if bundle:
        from penstock.runtime import open_model

        predictions = open_model(model).predict(found)
        answer: object = {"predictions": predictions}
    else:
        from penstock.client import Client

        with Client(url) as client:
            answered = client.predict(model, found)
        predictions, answer = list(answered.predictions), answered
    if json:
        print_json(answer)
        return
    shown = [(index, *_cells(prediction)) for index, prediction in enumerate(predictions)]
    print_table("", shown, columns=("row", "prediction", "probabilities"))


def _cells(prediction: Prediction) -> tuple[object, object]:
    probabilities = prediction.probabilities or {}
    shown = "  ".join(f"{key}: {value:.6g}" for key, value in probabilities.items())
    if prediction.label is not None:
        return prediction.label, shown
    return (prediction.values if prediction.value is None else prediction.value), shown
