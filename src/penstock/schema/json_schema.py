"""A schema for others: JSON Schema 2020-12 of one row (in `/openapi.json`), and a valid example row (for `curl`)."""

from __future__ import annotations

import math
from typing import Any, Final

from penstock.schema.check import LONGEST_TEXT
from penstock.schema.field import Field, Scalar, Schema
from penstock.schema.soundness import LARGEST_INT

_EXAMPLE_INSTANT: Final = "2026-01-31T09:30:00Z"


def json_schema(schema: Schema, max_text: int = LONGEST_TEXT) -> dict[str, Any]:
    """JSON Schema 2020-12 of one row given as an object; `max_text` is the limit of characters that the check has.

    What JSON Schema cannot say is left to the check: 3.0 is an integer to it, the instants end in 2262, and one text is
    reserved.
    """
    required = [field.name for field in schema.fields if not _has_default(field)]
    return {
        "type": "object",
        "properties": {field.name: _property(field, max_text) for field in schema.fields},
        **({"required": required} if required else {}),
        "additionalProperties": schema.on_extra == "ignore",
    }


def example_row(schema: Schema) -> dict[str, Scalar]:
    """A row that the check takes: defaults first, then allowed values, then a plain value inside the range."""
    return {field.name: _example(field) for field in schema.fields}


def _has_default(field: Field) -> bool:
    return isinstance(field.default, bool | int | float | str)


def _property(field: Field, max_text: int) -> dict[str, Any]:
    described = _described(field)
    if field.coerce == "lenient":
        # Any scalar is read as the field's type; which texts and limits it takes is left to the check.
        return described | {"type": ["string", "number", "boolean", *(["null"] if _has_default(field) else [])]}
    if field.allowed is not None and field.on_unknown == "refuse":
        return described | {"enum": [*field.allowed, *([None] if field.nullable else [])]}
    limits = _limits(field, max_text)
    kind = limits.pop("type")
    return described | {"type": [kind, "null"] if field.nullable else kind} | limits


def _described(field: Field) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if field.description:
        described["description"] = field.description
    if _has_default(field):
        described["default"] = field.default
    if field.pii is not None:
        described["x-pii"] = field.pii
    return described


def _limits(field: Field, max_text: int) -> dict[str, Any]:
    if field.type == "bool":
        return {"type": "boolean"}
    if field.type == "timestamp":
        return {"type": "string", "format": "date-time"}
    if field.type in {"string", "category"}:
        own = [*(field.allowed or ()), field.default]
        longest = max([max_text, *(len(text) for text in own if isinstance(text, str))])
        return {"type": "string", "maxLength": longest} | ({"examples": list(field.allowed)} if field.allowed else {})
    low, high = field.range or (None, None)
    if field.type == "int":
        return {"type": "integer", "minimum": int(_or(low, -LARGEST_INT)), "maximum": int(_or(high, LARGEST_INT))}
    bounds = {"minimum": low, "maximum": high}
    return {"type": "number"} | {key: bound for key, bound in bounds.items() if bound is not None}


def _or(bound: float | None, otherwise: float) -> float:
    return otherwise if bound is None else bound


def _example(field: Field) -> Scalar:
    if isinstance(field.default, bool | int | float | str):
        return field.default
    if field.allowed is not None:
        return field.allowed[0]
    if field.type == "bool":
        return True
    if field.type == "timestamp":
        return _EXAMPLE_INSTANT
    if field.type in {"string", "category"}:
        return "text"
    number = _inside(*(field.range or (None, None)))
    return int(number) if field.type == "int" else number


def _inside(low: float | None, high: float | None) -> float:
    """A number between the bounds, a round one where there is room."""
    if low is None or high is None:
        return max(low, 1.0) if low is not None else min(_or(high, 1.0), 1.0)
    middle = low / 2 + high / 2
    whole = math.floor(middle)
    return float(whole) if low <= whole <= high else min(max(middle, low), high)
