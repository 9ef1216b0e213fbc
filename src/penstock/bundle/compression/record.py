"""What compression did: plain values, sealed as `compression.json`, shown by `inspect`."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

COMPRESSION_FILE: Final = "compression.json"
MAX_LOSS: Final = 0.005
Quantize: TypeAlias = Literal["int8", "int8-dynamic"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    - `prune`: the share of trees, or of hidden units of each layer, to leave out, in (0, 1).
    - `quantize`: `int8` is static, its scales set on the sample; `int8-dynamic` finds them anew for each row.
    - `metric`: what must not be lost; accuracy, or r2 of values, unless another measured metric is named.
    - `max_loss`: how much of it may be lost; for an error in the target's unit (mae, rmse), the share of it.
    """

    prune: float | None = None
    quantize: Quantize | None = None
    metric: str | None = None
    max_loss: float = MAX_LOSS


class Side(msgspec.Struct, frozen=True):
    """A model file before or after: its size, the microseconds of a call, its metrics on the judged rows."""

    flavour: str
    size_bytes: int
    one_row_us: float
    many_rows_us: float
    metrics: dict[str, float]


class Distance(msgspec.Struct, frozen=True):
    """How far the compressed model's answers are from the original's, on the sample's rows (at most 20,000).

    Of probabilities the differences are absolute; of values too. `flips`: rows with another label.
    """

    rows: int
    largest: float
    mean: float
    flips: int


class Compression(msgspec.Struct, frozen=True, kw_only=True):
    """`compression.json`: the steps in words, before and after, what was lost of `metric` and what was allowed.

    `judged_rows` are the holdout's rows that no step has looked at; all metrics stand on them.
    """

    steps: tuple[str, ...]
    before: Side
    after: Side
    metric: str
    loss: float
    max_loss: float
    judged_rows: int
    distance: Distance
    many_rows: int = 64
