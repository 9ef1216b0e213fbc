"""A bare ONNX file and its sample become a bundle; see `bundle/nets` for what is read from its inputs and outputs."""

from __future__ import annotations

from pathlib import Path

from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.order import Order, Progress
from penstock.bundle.importers.tables import holdout_of, sample_of, schema_of
from penstock.bundle.nets.declared import OnnxModel
from penstock.bundle.outputs import ClassLabel
from penstock.bundle.pack import PackOptions, pack
from penstock.bundle.provenance import Origin, digest_of


def import_onnx(order: Order, progress: Progress) -> Bundle:
    """The bundle of an ONNX file, with the sample that the order names. Raises PackRefused."""
    path = Path(order.source)
    origin = Origin(kind="ONNX file", location=path.name, files={path.name: digest_of(path)})
    return pack(
        OnnxModel(model=path, classes=classes_of(order.classes)),
        name=order.name,
        sample=sample_of(order),
        holdout=holdout_of(order),
        schema=schema_of(order),
        out=order.out,
        options=PackOptions(
            description=order.description, is_archive=order.is_archive, progress=progress, origin=origin
        ),
    )


def classes_of(words: tuple[str, ...]) -> tuple[ClassLabel, ...]:
    """Classes as a user types them: whole numbers when all of them are, else texts."""
    if all(word.lstrip("-").isascii() and word.lstrip("-").isdigit() for word in words):
        return tuple(int(word) for word in words)
    return words
