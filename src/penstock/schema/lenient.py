"""Reading a value as what a field wants, for fields with `coerce: lenient`: layouts of others whose rules are these.

Pure functions of one decoded JSON value; `rule.py` applies the field's default and limits to what they give.
"""

from __future__ import annotations

import math
import re
from typing import Final

_NUMBER: Final = re.compile(r"\s*[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", re.ASCII)


def number_of(value: object, *, whole: bool) -> float | None:
    """`value` as a number: true is 1, a text that spells a decimal number is that number; `whole` cuts fractions off.

    None for whatever else there is: null, other texts ("n/a", "inf", "0x10"), and what no finite double holds.
    """
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value) else None
    if not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return _held(int(value), whole=whole)
    if not math.isfinite(value):
        return None
    return math.trunc(value) if whole else value


def text_of(value: object) -> str | None:
    """`value` as text: 3 is "3", 3.0 is "3.0", true is "True" (as Python writes them); None for null."""
    if value is None or isinstance(value, str):
        return value
    try:
        return str(value)
    except ValueError:  # Python writes no integer of thousands of digits
        return None


def _held(value: int, *, whole: bool) -> int | None:
    """An integer as it is; None for a float field when no double is that large."""
    if whole:
        return value
    try:
        float(value)
    except OverflowError:
        return None
    return value
