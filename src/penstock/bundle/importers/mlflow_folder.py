"""An MLflow model folder becomes a bundle: its signature the schema, its input example the sample.

Reads `MLmodel` and the flavour's own file; needs no MLflow (that is `mlflow_client.py`, for URIs).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.mlflow_flavours import FLAVOURS, Source, opened
from penstock.bundle.importers.mlflow_sample import Example, Signature, example_of, schema_from, signature_of
from penstock.bundle.importers.order import Order, Progress
from penstock.bundle.importers.tables import holdout_of, sample_of, schema_of
from penstock.bundle.nets.declared import Declared
from penstock.bundle.pack import PackOptions, pack
from penstock.bundle.provenance import Origin, digest_of
from penstock.errors import PackRefused
from penstock.schema import Schema

_MLMODEL: Final = "MLmodel"


class MLmodel(msgspec.Struct, frozen=True):
    """What the file MLmodel says, as far as it is used."""

    flavors: dict[str, dict[str, Any]]
    signature: dict[str, Any] | None = None
    saved_input_example_info: dict[str, Any] | None = None
    mlflow_version: str | None = None
    model_uuid: str | None = None
    run_id: str | None = None


def import_mlflow(order: Order, progress: Progress) -> Bundle:
    """The bundle of an MLflow model folder. Raises PackRefused naming the file to blame."""
    root = Path(order.source)
    described = read_mlmodel(root)
    flavour = flavour_of(described)
    progress(f"reading the model (MLflow flavour {flavour})")
    source = Source(root, described.flavors[flavour])
    model, file = opened(flavour, source, order)
    signature = signature_of(described.signature)
    example = None if order.sample is not None else _example(root, described, signature)
    return pack(
        model,
        name=order.name,
        sample=sample_of(order) if example is None else example.rows,
        holdout=holdout_of(order),
        schema=_schema(order, model, signature, example),
        out=order.out,
        options=PackOptions(
            description=order.description,
            is_archive=order.is_archive,
            progress=progress,
            origin=_origin(order, described, flavour, (file, example)),
            mlflow_run=order.mlflow_run or described.run_id,
            dvc=order.dvc,
        ),
    )


def read_mlmodel(root: Path) -> MLmodel:
    """The file MLmodel of a folder. Raises PackRefused."""
    try:
        plain = yaml.safe_load((root / _MLMODEL).read_text(encoding="utf-8"))
        return msgspec.convert(plain, MLmodel)
    except FileNotFoundError:
        raise PackRefused(_MLMODEL, "there is no such file in the folder", "Name the model's own folder") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError, ValueError, RecursionError) as error:
        said = str(error).replace("\n", " ")[:300]
        raise PackRefused(_MLMODEL, f"it cannot be read: {said}", "Log the model again") from error


def flavour_of(described: MLmodel) -> str:
    """The flavour that is imported: the first of ours that the model has. Raises PackRefused."""
    for flavour in FLAVOURS:
        if flavour in described.flavors:
            return flavour
    there = ", ".join(sorted(described.flavors)) or "none"
    raise PackRefused(
        _MLMODEL,
        f"expected one of the flavours {', '.join(FLAVOURS)}, got {there}",
        "Log the fitted model itself: a Python function of your own is code, which no bundle holds",
    )


def _example(root: Path, described: MLmodel, signature: Signature | None) -> Example:
    if described.saved_input_example_info is None:
        raise PackRefused(
            _MLMODEL,
            "the model has no input example, so there are no rows to prove it on",
            "Say --sample with training rows, or log it with input_example=X_train.head(100)",
        )
    return example_of(root, described.saved_input_example_info, signature)


def _schema(order: Order, model: object, signature: Signature | None, example: Example | None) -> Schema | None:
    given = schema_of(order)
    if given is not None or example is None or signature is None or isinstance(model, Declared):
        return given
    return schema_from(signature, example)


def _origin(order: Order, described: MLmodel, flavour: str, read: tuple[Path, Example | None]) -> Origin:
    file, example = read
    facts = {
        "flavour": flavour,
        "mlflow_version": described.mlflow_version,
        "model_uuid": described.model_uuid,
        "run_id": described.run_id,
    }
    how = None if example is None else f"the model's input example, {example.count} rows; no training rows were given"
    return Origin(
        kind="MLflow model",
        location=order.location or Path(order.source).resolve().name,
        files={_MLMODEL: digest_of(Path(order.source) / _MLMODEL), file.name: digest_of(file)},
        facts={key: value for key, value in facts.items() if value},
        sample=how,
    )
