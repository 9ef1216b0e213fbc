"""The last step that importers share: a model that is read becomes a bundle as its order says."""

from __future__ import annotations

from typing import Any

from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.order import Order, Progress
from penstock.bundle.importers.tables import holdout_of, sample_of, schema_of
from penstock.bundle.pack import PackOptions, pack
from penstock.bundle.provenance import Origin


def packed(model: Any, order: Order, origin: Origin, progress: Progress) -> Bundle:
    """The bundle of `model` with the sample, holdout and schema that the order names. Raises as `pack` does."""
    return pack(
        model,
        name=order.name,
        sample=sample_of(order),
        holdout=holdout_of(order),
        schema=schema_of(order),
        out=order.out,
        options=PackOptions(
            prune=order.prune,
            quantize=order.quantize,
            metric=order.metric,
            max_loss=order.max_loss,
            description=order.description,
            is_archive=order.is_archive,
            progress=progress,
            origin=origin,
            mlflow_run=order.mlflow_run,
            dvc=order.dvc,
        ),
    )
