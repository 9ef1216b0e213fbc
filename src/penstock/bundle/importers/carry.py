"""From an order to its importer, and whether that needs a process of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.apart import Limits, carry_out_apart
from penstock.bundle.importers.founding_names import MODEL_FILE, SCHEMA_FILE
from penstock.bundle.importers.order import Kind, Order, Progress
from penstock.errors import PackRefused

Importer: TypeAlias = Callable[[Order, Progress], Bundle]

IMPORTERS: Final[dict[Kind, str]] = {
    "fitted": "penstock.bundle.importers.fitted:import_fitted",
    "founding": "penstock.bundle.importers.founding:import_founding",
    "mlflow": "penstock.bundle.importers.mlflow_folder:import_mlflow",
    "onnx": "penstock.bundle.importers.onnx_file:import_onnx",
}
"""One importer per kind of source; its libraries are imported when it is used."""

MLMODEL: Final = "MLmodel"


def bring_in(order: Order, progress: Progress, *, allow_unsafe: bool, limits: Limits) -> Bundle:
    """The bundle of an order: in the child process when the source may run code, else in this one, which never does.

    Raises what the importers raise; PackRefused naming the file that would run code, without `allow_unsafe`.
    """
    return carry_out_apart(order, limits, progress) if allow_unsafe else carry_out(order, progress)


def carry_out(order: Order, progress: Progress) -> Bundle:
    """The bundle of an order, in this process. Raises PackRefused naming the file and the mend."""
    module, attribute = IMPORTERS[order.kind].split(":")
    importer: Importer = getattr(importlib.import_module(module), attribute)
    return importer(order, progress)


def kind_of(path: Path) -> Kind:
    """What kind of source is at `path`, by its name and the names of its files. Raises PackRefused."""
    if not path.exists():
        raise PackRefused(str(path), "there is nothing at this path", "Check the path")
    if path.is_file():
        return "onnx" if path.suffix == ".onnx" else "fitted"
    names = {entry.name for entry in path.iterdir()}
    if MLMODEL in names:
        return "mlflow"
    if names & {SCHEMA_FILE, MODEL_FILE}:
        return "founding"
    raise PackRefused(
        str(path),
        f"expected a folder with {MLMODEL} (MLflow) or with {MODEL_FILE} and {SCHEMA_FILE}, found "
        + (", ".join(sorted(names)[:5]) or "nothing"),
        "Name the model's own file or folder",
    )
