"""`pack`, `inspect`, `verify`: bundles on disk."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.screen import console, print_json, print_table, progress

if TYPE_CHECKING:
    from penstock.bundle.bundle import Bundle
    from penstock.bundle.compression.record import Quantize

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a directory or a .penstock file.")]


class Tracker(enum.StrEnum):
    """Where `--log-to` records."""

    mlflow = "mlflow"


LogTo = Annotated[
    Tracker | None, typer.Option(help="Record parameters, metrics, artifacts and the bundle in a run there.")
]
TrackingUri = Annotated[str | None, typer.Option(help="The MLflow server. [default: MLflow's own]")]
MlflowRun = Annotated[str | None, typer.Option(help="The id of the MLflow run that trained the model.")]
Dvc = Annotated[Path | None, typer.Option(help="The .dvc file of the training data: its MD5 and path are kept.")]
AllowUnsafe = Annotated[
    bool, typer.Option("--allow-unsafe", help="Open pickles, in a child process: it runs whatever code is in them.")
]


def pack(
    *,
    model: Annotated[Path, typer.Argument(help="A fitted scikit-learn model: .skops, or .joblib/.pkl.")],
    name: Annotated[str, typer.Option(help="The model's name, as it will be in URLs.")],
    sample: Annotated[Path, typer.Option(help="The training rows: .csv, .parquet or .jsonl.")],
    holdout: Annotated[Path | None, typer.Option(help="Rows that the model never saw, with the target.")] = None,
    target: Annotated[str | None, typer.Option(help="The target's column, in the sample and the holdout.")] = None,
    schema: Annotated[Path | None, typer.Option(help="A schema.yaml to use instead of the inferred one.")] = None,
    out: Annotated[Path, typer.Option(help="Where the bundle is made, as <name>-<n>.")] = Path("bundles"),
    description: Annotated[str | None, typer.Option(help="A line for people.")] = None,
    dvc: Dvc = None,
    mlflow_run: MlflowRun = None,
    archive: Annotated[bool, typer.Option("--archive", help="Make one .penstock file.")] = False,
    prune: Annotated[float | None, typer.Option(help="Leave out this share of trees or hidden units.")] = None,
    quantize: Annotated[str | None, typer.Option(help="Nets in eight bits: int8 or int8-dynamic.")] = None,
    metric: Annotated[str | None, typer.Option(help="What compression must not lose. [default: accuracy, r2]")] = None,
    max_loss: Annotated[float, typer.Option(help="How much of the metric compression may lose.")] = 0.005,
    log_to: LogTo = None,
    tracking_uri: TrackingUri = None,
    experiment: Annotated[str | None, typer.Option(help="The MLflow experiment. [default: Default]")] = None,
    allow_unsafe: AllowUnsafe = False,
    json: Json = False,
) -> None:
    """Seal a trained pipeline and its training rows into a bundle, with the proof that it answers the same.

    Example: `penstock pack churn.joblib --allow-unsafe --name churn --sample train.csv --target churned`
    """
    from penstock.bundle.importers.apart import Limits
    from penstock.bundle.importers.carry import bring_in, kind_of
    from penstock.bundle.importers.mlflow_client import require_mlflow
    from penstock.bundle.importers.order import Order

    if log_to is not None:
        require_mlflow()
    if not model.exists():
        raise FileNotFoundError(f"{model}: there is nothing at this path")
    order = Order(
        kind=kind_of(model),
        source=str(model),
        name=name,
        out=str(out),
        sample=str(sample),
        holdout=None if holdout is None else str(holdout),
        target=target,
        schema=None if schema is None else str(schema),
        description=description,
        dvc=None if dvc is None else str(dvc),
        mlflow_run=mlflow_run,
        is_archive=archive,
        prune=prune,
        quantize=_quantize(quantize),
        metric=metric,
        max_loss=max_loss,
    )
    with progress(quiet=json) as step:
        bundle = bring_in(order, step, allow_unsafe=allow_unsafe, limits=Limits())
        run = None if log_to is None else _recorded(bundle, step, tracking_uri, experiment)
    show_packed(bundle, as_json=json)
    if run is not None and not json:
        console().print(f"MLflow run: {run}")


def _recorded(bundle: Bundle, step: Callable[[str], None], tracking_uri: str | None, experiment: str | None) -> str:
    from penstock.bundle.importers.mlflow_client import log_bundle

    step("recording in MLflow")
    return log_bundle(bundle, tracking_uri=tracking_uri, experiment=experiment)


def _quantize(said: str | None) -> Quantize | None:
    known: tuple[Quantize, ...] = ("int8", "int8-dynamic")
    if said is not None and said not in known:
        raise typer.BadParameter(f"expected {' or '.join(known)}, got {said!r}", param_hint="--quantize")
    return next((each for each in known if each == said), None)


def inspect(bundle: BundlePath, json: Json = False) -> None:
    """Show what a bundle is: schema, flavour, proof, evaluation, environment, files. Runs nothing of the model.

    Example: `penstock inspect bundles/churn-1`
    """
    from penstock.bundle.bundle import Bundle
    from penstock.bundle.describe import description_of

    opened = Bundle.open(bundle)
    if json:
        print_json(description_of(opened))
        return
    _print_summary(opened)
    _print_details(opened)


def verify(bundle: BundlePath, json: Json = False) -> None:
    """Check every digest and the seal, load the model, and run its golden rows on this machine.

    Exits 1 when anything differs. Example: `penstock verify bundles/churn-1`
    """
    from penstock.runtime import open_model
    from penstock.settings import from_environment

    settings = from_environment(flags={}).settings
    model = open_model(bundle, trusted=settings.sklearn.trusted, allow_version_skew=settings.native.allow_version_skew)
    golden = len(model.bundle.golden.rows)
    if json:
        print_json({"ok": True, "name": model.name, "digest": model.digest, "golden_rows": golden})
        return
    files = len(model.bundle.files)
    console().print(f"[green]ok[/]: {files} files as sealed, {golden} golden rows answer as the original did")
    console().print(f"    {model.digest}")


def show_packed(bundle: Bundle, *, as_json: bool) -> None:
    """What was packed, and what to type next."""
    from penstock.bundle.describe import description_of

    if as_json:
        print_json(description_of(bundle))
        return
    _print_summary(bundle)
    console().print(f"\nNext: [bold]penstock serve --bundle {bundle.path}[/]")


def _print_summary(bundle: Bundle) -> None:
    from penstock.bundle.describe import summary
    from penstock.bundle.provenance import Provenance

    print_table("", summary(bundle), columns=("", ""))
    provenance = bundle.part("provenance.json", Provenance)
    for note in provenance.notes if provenance is not None else ():
        console().print(f"  note: {note}", markup=False)


def _print_details(bundle: Bundle) -> None:
    from penstock.bundle.describe import description_of, fields
    from penstock.server.curl import curl_of

    described = description_of(bundle)
    screen = console()
    screen.print()
    print_table("schema", fields(bundle.schema), columns=("field", "type", "missing", "values", "pii"))
    outputs = bundle.outputs
    answers = ", ".join(outputs.class_keys or outputs.targets or ("value",))
    screen.print(f"\n[italic]outputs[/]  {outputs.kind}: {answers}")
    if described.evaluation is not None and (described.evaluation.metrics or described.evaluation.stated):
        found = described.evaluation
        screen.print()
        rows = [(name, f"{value:.6g}", "measured on the holdout") for name, value in found.metrics.items()]
        rows += [(name, f"{value:.6g}", "stated by the packer") for name, value in found.stated.items()]
        print_table(f"evaluation ({found.rows:,} rows)", rows, columns=("metric", "value", ""))
    if described.environment is not None:
        libraries = " ".join(f"{name} {version}" for name, version in described.environment.libraries.items())
        screen.print(f"\n[italic]packed with[/]  Python {described.environment.python}, {libraries}")
    if described.provenance is not None:
        screen.print(
            f"[italic]packed by[/]  {described.provenance.packed_by} (unverified), {bundle.manifest.created_at}"
        )
    screen.print()
    files = [(name, f"{entry.size_bytes:,}", f"{entry.sha256[:19]}…") for name, entry in bundle.manifest.files.items()]
    print_table("files", files, columns=("file", "bytes", "digest"))
    screen.print(f"\n{curl_of('http://127.0.0.1:8080', bundle.manifest.name, bundle.schema)}", markup=False)
