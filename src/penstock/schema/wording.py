"""The words of a violation: where it is (`path`), what was `expected`, what came (`got`)."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Final

from penstock.schema.field import Field

LONGEST_SHOWN: Final = 80
UNDECLARED: Final = "<undeclared>"
"""Stands in a recorded path for a name that is not the schema's."""

_MOST_SHOWN: Final = 6
_PLAIN_NAME: Final = re.compile(r"[^\W\d]\w*")

_JSON_TYPES: Final[dict[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def step_to(name: str) -> str:
    """The step of a JSON path to a member called `name`: `.age`, or `["my field"]` for a name that is no plain word."""
    if len(name) > LONGEST_SHOWN:
        name = name[: LONGEST_SHOWN - 1] + "…"
    return f".{name}" if _PLAIN_NAME.fullmatch(name) else f"[{json.dumps(name, ensure_ascii=False)}]"


def counted(count: int) -> str:
    """`1 value`, `2 values`."""
    return f"{count} value" if count == 1 else f"{count} values"


def json_type(value: object) -> str:
    """The JSON type of `value` in backquotes; of what JSON does not have, the Python type."""
    return f"`{_JSON_TYPES.get(type(value), type(value).__name__)}`"


def shown(value: object, pii: str | None = None) -> str:
    """`value` as JSON text of at most 80 characters; the class alone when it is personal data."""
    if pii is not None:
        return f"(masked: {pii})"
    if isinstance(value, str):
        value = value[: LONGEST_SHOWN + 1]
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        # Only a Python caller has these: an integer of thousands of digits, a list that holds itself.
        return json_type(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def expected_of(field: Field, longest_text: int | None = None) -> str:
    """What `field` takes, for a person: "`int` in 0..130 or null"; `longest_text` is its limit of characters."""
    return _expected_value(field, longest_text) + (" or null" if field.nullable else "")


def _expected_value(field: Field, longest_text: int | None) -> str:
    if field.coerce == "lenient" and field.type in {"float", "int"}:
        largest = " of at most 2**53 in magnitude" if field.type == "int" else ""
        return f"what reads as `{field.type}`" + (_interval(field.range) or largest)
    if field.allowed is not None and field.on_unknown == "refuse":
        return "one of " + _some_of(field.allowed)
    if field.type == "timestamp":
        return '`timestamp` (RFC 3339 text with an offset, years 1678 to 2261, such as "2026-01-31T09:30:00Z")'
    if field.type in {"string", "category"}:
        return "`string`" + (f" of at most {longest_text} characters" if longest_text is not None else "")
    if field.type == "int":
        return "`int`" + (_interval(field.range) or " of at most 2**53 in magnitude")
    return f"`{field.type}`" + _interval(field.range)


def _interval(bounds: tuple[float | None, float | None] | None) -> str:
    if bounds is None:
        return ""
    low, high = bounds
    if low is None:
        return f" <= {_number(high)}"
    return f" >= {_number(low)}" if high is None else f" in {_number(low)}..{_number(high)}"


def _number(value: float | None) -> str:
    return str(int(value)) if value is not None and value == int(value) and abs(value) < 1e16 else repr(value)


def _some_of(values: Sequence[object]) -> str:
    texts = [shown(value) for value in values[:_MOST_SHOWN]]
    return ", ".join(texts) + (f", … ({len(values)} in all)" if len(values) > _MOST_SHOWN else "")


def known_fields(name: str, names: Sequence[str]) -> str:
    """What was expected where an unknown field `name` came: the nearest known one, or some of them."""
    near = difflib.get_close_matches(name[:LONGEST_SHOWN], names, n=1)
    if near:
        return f"a field of the schema; the nearest is `{near[0]}`"
    some = ", ".join(f"`{known}`" for known in names[:_MOST_SHOWN])
    return f"a field of the schema: {some}" + (f", … ({len(names)} in all)" if len(names) > _MOST_SHOWN else "")
