"""Where a source is: a path of this machine, or a URI that MLflow knows, downloaded for as long as it is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from penstock.bundle.importers.carry import MLMODEL, kind_of
from penstock.bundle.importers.mlflow_client import download
from penstock.bundle.importers.order import Kind, Progress
from penstock.errors import PackRefused

_SCHEMES: Final = ("models:/", "runs:/", "mlflow-artifacts:/")


class Place(msgspec.Struct, frozen=True):
    """A source on this machine: its kind, its path, and what the user called it where that is not the path."""

    kind: Kind
    path: Path
    location: str | None = None


@contextmanager
def found(source: str, tracking_uri: str | None, progress: Progress) -> Iterator[Place]:
    """The source that the user names. Raises PackRefused, and MissingExtra for a URI without MLflow."""
    if not source.startswith(_SCHEMES):
        path = Path(source)
        yield Place(kind_of(path), path)
        return
    with tempfile.TemporaryDirectory(prefix="penstock-import-") as scratch:
        progress(f"downloading {source}")
        path = download(source, Path(scratch), tracking_uri)
        if not (path / MLMODEL).is_file():
            raise PackRefused(source, f"there is no {MLMODEL} at this URI", "Name the model's own folder in the run")
        yield Place("mlflow", path, source)
