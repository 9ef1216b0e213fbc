"""One answer for one row, as it is sent, recorded and given to the caller of the Python client."""

from __future__ import annotations

import msgspec


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer for one row; which members are there is told by the model's declared outputs.

    - `label`: the class, in the type of the training labels; for an anomaly detector its verdict
    - `probabilities`: one per class, keyed by the class's JSON text, in the order of the model's classes
    - `value`: a regression's value, an anomaly detector's decision function
    - `values`: one per target of a regression with several
    """

    label: bool | int | str | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None
    values: dict[str, float] | None = None
