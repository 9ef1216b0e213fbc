"""What pandas writes for a value, in JSON and in CSV, read as what the schema's field means. It is not imported here.

Both functions give a value back as it came where they know no better: the check then refuses it in the usual words.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

from penstock.schema import Field

_LARGEST_INT: Final = 2.0**53
# Numbers as JSON writes them, so that "007" stays a text; 20 digits are more than an int field takes.
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,19})(?:\.0{1,20})?", re.ASCII)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_INSTANT: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[T ](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(?P<offset>Z|[-+]\d\d:\d\d)?)?",
    re.ASCII,
)
_BOOLS: Final = {"True": True, "true": True, "TRUE": True, "False": False, "false": False, "FALSE": False}


def json_value(field: Field, value: Any) -> Any:
    """A value out of a frame in JSON: a whole float of an int column that had gaps, an instant without an offset."""
    if field.type == "int" and isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_INT:
        return int(value)
    return _instant(value) if field.type == "timestamp" and isinstance(value, str) else value


def csv_value(field: Field, text: str) -> Any:
    """A cell of CSV: nothing is null, and the field's type says what a text stands for."""
    if not text:
        return None
    if field.type == "int":
        return int(text.partition(".")[0]) if _WHOLE.fullmatch(text) else text
    if field.type == "float":
        return _finite(text)
    if field.type == "bool":
        return _BOOLS.get(text, text)
    return _instant(text) if field.type == "timestamp" else text


def _finite(text: str) -> float | str:
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    return number if math.isfinite(number) else text


def _instant(text: str) -> str:
    """RFC 3339 for what pandas writes; without an offset it is UTC, as it was when the model was packed."""
    found = _INSTANT.fullmatch(text)
    if found is None:
        return text
    time = found["time"] or "00:00:00"
    return f"{found['date']}T{time if len(time) > 5 else time + ':00'}{found['offset'] or 'Z'}"
