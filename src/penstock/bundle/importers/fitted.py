"""A fitted scikit-learn model from a file: skops by itself; joblib and pickle in the child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.order import Order, Progress
from penstock.bundle.importers.packed import packed
from penstock.bundle.importers.unpickle import unpickle
from penstock.bundle.loaders.skops_file import read_skops
from penstock.bundle.provenance import Origin, digest_of
from penstock.errors import PackRefused

PICKLES: Final = (".joblib", ".pkl", ".pickle")


def import_fitted(order: Order, progress: Progress) -> Bundle:
    """The bundle of a fitted model in a file, with the sample that the order names.

    Raises PackRefused, also when it is a pickle and this is not the child process.
    """
    path = Path(order.source)
    progress("reading the model")
    model, notes = read_fitted(path, order)
    origin = Origin(kind="fitted model in a file", location=path.name, files={path.name: digest_of(path)}, notes=notes)
    return packed(model, order, origin, progress)


def read_fitted(path: Path, order: Order) -> tuple[Any, tuple[str, ...]]:
    """The fitted model in `path`, and what its libraries warned of."""
    if path.suffix == ".skops":
        return read_skops(path.read_bytes()), ()
    if path.suffix not in PICKLES:
        raise PackRefused(
            path.name, f"expected .skops, .onnx or {', '.join(PICKLES)}", "Call penstock.pack from Python"
        )
    read = unpickle(path, order)
    return read.content, read.notes
