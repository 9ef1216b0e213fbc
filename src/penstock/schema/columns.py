"""Checked rows as arrays: the layout in which every predictor takes its input."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

Columns: TypeAlias = dict[str, np.ndarray]
"""One 1-D array of n rows per field, keyed by the field's name, in the schema's order.

| field type        | dtype          | missing |
| ----------------- | -------------- | ------- |
| float, int, bool  | float64        | NaN     |
| string, category  | object of str  | None    |
| timestamp         | datetime64[ns], UTC | NaT |

An int is exact up to 2**53 in magnitude (the check refuses more); a bool is 0.0 or 1.0.
"""

MISSING_TEXT: Final = "\uffffmissing"
"""What stands for a missing text inside a compiled graph (ONNX strings have no null).

U+FFFF is a noncharacter, which Unicode keeps for the inside of programs, so no real text begins with it; the schema
check refuses this text as a value.
"""
