"""`import`: other people's layouts."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.bundles import AllowUnsafe, Dvc, Json, MlflowRun, TrackingUri, show_packed
from penstock.cli.screen import progress

Sample = Annotated[
    Path | None, typer.Option(help="Training rows: .csv, .parquet or .jsonl, where the source brings none.")
]


class Activation(enum.StrEnum):
    """The choices of `--activation`."""

    none = "none"
    sigmoid = "sigmoid"
    softmax = "softmax"


def import_model(
    *,
    source: Annotated[
        str,
        typer.Argument(
            help="A founding folder, an MLflow folder or URI (models:/…, runs:/…), .onnx, .skops, .joblib or .pkl."
        ),
    ],
    name: Annotated[str, typer.Option(help="The model's name, as it will be in URLs.")],
    sample: Sample = None,
    holdout: Annotated[Path | None, typer.Option(help="Rows that the model never saw, with the target.")] = None,
    target: Annotated[str | None, typer.Option(help="The target's column, in the sample and the holdout.")] = None,
    schema: Annotated[Path | None, typer.Option(help="A schema.yaml to use instead of the inferred one.")] = None,
    classes: Annotated[str | None, typer.Option(help="Classes of a net that names none: a,b,c.")] = None,
    activation: Annotated[
        Activation, typer.Option(help="What makes probabilities of a PyTorch net's scores.")
    ] = Activation.none,
    out: Annotated[Path, typer.Option(help="Where the bundle is made, as <name>-<n>.")] = Path("bundles"),
    description: Annotated[str | None, typer.Option(help="A line for people.")] = None,
    dvc: Dvc = None,
    mlflow_run: MlflowRun = None,
    archive: Annotated[bool, typer.Option("--archive", help="Make one .penstock file.")] = False,
    tracking_uri: TrackingUri = None,
    allow_unsafe: AllowUnsafe = False,
    memory_gib: Annotated[int, typer.Option(min=1, help="Address space of the child process.")] = 16,
    time_limit_s: Annotated[int, typer.Option(min=1, help="Longest time of the child process.")] = 1800,
    json: Json = False,
) -> None:
    """Make a sealed bundle of another layout, with the proof that it answers as its original does.

    Pickles are opened once, in a child process, and converted; the bundle holds none. Examples:
    `penstock import user_conversion_20240429 --name conversion --allow-unsafe`,
    `penstock import models:/churn@champion --name churn --tracking-uri http://127.0.0.1:5000`
    """
    from penstock.bundle.importers.apart import Limits
    from penstock.bundle.importers.carry import bring_in
    from penstock.bundle.importers.order import Order, classes_of
    from penstock.bundle.importers.origin import found

    with progress(quiet=json) as step, found(source, tracking_uri, step) as place:
        order = Order(
            kind=place.kind,
            source=str(place.path),
            location=place.location,
            name=name,
            out=str(out),
            sample=None if sample is None else str(sample),
            holdout=None if holdout is None else str(holdout),
            target=target,
            schema=None if schema is None else str(schema),
            classes=classes_of(tuple(word.strip() for word in (classes or "").split(",") if word.strip())),
            activation=activation.value,
            description=description,
            dvc=None if dvc is None else str(dvc),
            mlflow_run=mlflow_run,
            is_archive=archive,
        )
        limits = Limits(memory_bytes=memory_gib << 30, time_s=float(time_limit_s))
        bundle = bring_in(order, step, allow_unsafe=allow_unsafe, limits=limits)
    show_packed(bundle, as_json=json)
