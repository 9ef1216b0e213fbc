"""The tables and the schema that an order names, read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.bundle.importers.order import Order
from penstock.bundle.tables import read_table, split_target
from penstock.errors import PackRefused
from penstock.schema import Schema
from penstock.schema.yaml_form import schema_from_yaml

if TYPE_CHECKING:
    import pandas as pd


def sample_of(order: Order) -> pd.DataFrame:
    """The training rows, without the target. Raises PackRefused when the order names none."""
    if order.sample is None:
        raise PackRefused(
            "sample", f"{Path(order.source).name} comes without training rows", "Say --sample with the training rows"
        )
    rows, _ = split_target(read_table(Path(order.sample)), order.target)
    return rows


def holdout_of(order: Order) -> tuple[Any, Any] | None:
    """The rows that the model never saw and their target, or None."""
    if order.holdout is None:
        return None
    return split_target(read_table(Path(order.holdout)), order.target, required=True)


def schema_of(order: Order) -> Schema | None:
    """The schema that the order names, or None."""
    return None if order.schema is None else schema_from_yaml(Path(order.schema).read_text(encoding="utf-8"))
