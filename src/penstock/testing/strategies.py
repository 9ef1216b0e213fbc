"""Hypothesis strategies: schemas of every kind, rows that keep to them, and JSON texts that nearly do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from penstock.schema.columns import MISSING_TEXT
from penstock.schema.field import Field, FieldType, Schema

_LARGEST_INT: Final = 2**53
_TYPES: Final[tuple[FieldType, ...]] = ("float", "int", "bool", "string", "category", "timestamp")
_FIRST: Final = datetime(1678, 1, 1)
_LAST: Final = datetime(2261, 12, 31)

# Values of every JSON kind that are wrong for most fields, or right by a hair.
ODD_TOKENS: Final = (
    *("null", "true", "false", "0", "-0", "-0.0", "1", "3.0", "1e2", "2.5", "-1", "1e-400", "1e308", "[]", "{}", "[1]"),
    *("9007199254740992", "9007199254740993", "-9007199254740993", "9007199254740992.0", "1e16", "9" * 400),
    *('""', '"3"', '"true"', '"None"', '"nan"', '"\\u00e9"', '"\\uffffmissing"', '"a\\u0000"', '{"a": null}'),
    *('"2020-01-01T00:00:00"', '"2020-01-01T00:00:00Z"', '"2020-02-30T00:00:00Z"', '"1500-01-01T00:00:00Z"'),
    *('"2262-04-11T23:47:16.854775Z"', '"2262-04-11T23:47:16.854776Z"', '"2020-01-01 00:00:00.1234565+05:30"'),
    *('"1e5"', '" -2.75\\n"', '"1e999"', '"inf"', '"0x10"', '"1_0"', '".5"', '"\\uff11"', '"9007199254740994"', "-0.5"),
    *('"1677-09-21T00:12:43.145225Z"', '"1677-09-21T00:12:43.145224Z"', '"2020-01-01"', '"2020-01-01T00:00:60Z"'),
)


def texts(max_size: int = 12) -> SearchStrategy[str]:
    """Texts that a field can hold: all that UTF-8 can carry, but the reserved one."""
    return st.text(st.characters(codec="utf-8"), max_size=max_size).filter(lambda text: text != MISSING_TEXT)


def field_names() -> SearchStrategy[str]:
    """Names of one to twelve characters, of any script."""
    allowed = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters='"\\')
    return st.one_of(
        st.sampled_from(["age", "Age", "my field", "年龄", "$", "f0", "f1", "a.b", "null", "no", "1e5"]),
        st.text(allowed, min_size=1, max_size=12).filter(lambda name: bool(name.strip())),
    )


def instants() -> SearchStrategy[str]:
    """RFC 3339 texts with an offset, within what nanoseconds since 1970 can hold."""
    return st.datetimes(_FIRST, _LAST, timezones=st.just(UTC)).map(lambda value: value.isoformat())


@st.composite
def schemas(draw: DrawFn, max_fields: int = 6) -> Schema:
    """Schemas of one to `max_fields` fields, with every option that their types can have."""
    names = draw(st.lists(field_names(), min_size=1, max_size=max_fields, unique=True))
    fields = tuple(draw(fields_called(name)) for name in names)
    return Schema(fields=fields, on_extra=draw(st.sampled_from(["refuse", "ignore"])))


@st.composite
def fields_called(draw: DrawFn, name: str) -> Field:
    """Fields called `name`, of any type."""
    kind = draw(st.sampled_from(_TYPES))
    options: dict[str, Any] = {"name": name, "type": kind, "nullable": draw(st.booleans())}
    options |= draw(_limits(kind))
    if not options["nullable"] and draw(st.booleans()) and _may_be_lenient(options):
        options["coerce"] = "lenient"
    if draw(st.booleans()):
        options["default"] = draw(values_of(Field(**options)).filter(lambda value: value is not None))
        if options.get("on_unknown") == "map" and options["default"] not in options["allowed"]:
            options["default"] = options["allowed"][0]
    options["pii"] = draw(st.sampled_from([None, None, "email"]))
    options["description"] = draw(st.none() | texts())
    if options["nullable"]:
        options["null_as"] = draw(st.sampled_from(["nan", "none", "na"]))
    return Field(**options)


def _may_be_lenient(options: dict[str, Any]) -> bool:
    kind = options["type"]
    return kind in {"string", "category"} or (kind in {"float", "int"} and "allowed" not in options)


@st.composite
def _limits(draw: DrawFn, kind: FieldType) -> dict[str, Any]:
    """Range, allowed values and what belongs to them, for a field of type `kind`."""
    options: dict[str, Any] = {}
    choice = draw(st.sampled_from(["none", "range", "allowed"]))
    if kind == "category" or (choice == "allowed" and kind in {"float", "int", "string"}):
        options["allowed"] = tuple(draw(st.lists(_free_values(kind), min_size=1, max_size=8, unique=True)))
    elif choice == "range" and kind in {"float", "int"}:
        ends = sorted(draw(st.lists(_free_values(kind), min_size=2, max_size=2)))
        options["range"] = draw(st.sampled_from([tuple(ends), (ends[0], None), (None, ends[1])]))
    if kind == "int":
        options["coerce"] = draw(st.booleans())
    if kind == "category":
        options["on_unknown"] = draw(st.sampled_from(["refuse", "accept", "map"]))
        if options["on_unknown"] == "map":
            options["unknown_as"] = draw(st.sampled_from(options["allowed"]))
    return options


def _free_values(kind: FieldType) -> SearchStrategy[Any]:
    """Values of a field of type `kind` that has no limits."""
    if kind == "float":
        return st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000).map(float)
    if kind == "int":
        return st.integers(-_LARGEST_INT, _LARGEST_INT) | st.integers(-10, 10)
    if kind == "bool":
        return st.booleans()
    return instants() if kind == "timestamp" else texts()


def values_of(field: Field) -> SearchStrategy[Any]:
    """Values that `field` takes, as a JSON decoder gives them."""
    values = _given_values(field)
    if field.coerce == "lenient" and isinstance(field.default, bool | int | float | str):
        unread = st.none() if field.type in {"string", "category"} else st.none() | st.sampled_from(["", "n/a", "1,5"])
        return values | unread
    return st.none() | values if field.nullable else values


def _given_values(field: Field) -> SearchStrategy[Any]:
    if field.allowed is not None:
        among = st.sampled_from(field.allowed)
        return among if field.on_unknown == "refuse" else among | texts()
    if field.range is None:
        return _free_values(field.type)
    low, high = field.range
    if field.type == "int":
        return st.integers(-_LARGEST_INT if low is None else int(low), _LARGEST_INT if high is None else int(high))
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def rows_of(draw: DrawFn, schema: Schema) -> dict[str, Any]:
    """Rows that keep to `schema`; fields with a default may be absent."""
    row = {}
    for field in schema.fields:
        may_be_absent = isinstance(field.default, bool | int | float | str)
        if not (may_be_absent and draw(st.booleans())):
            row[field.name] = draw(values_of(field))
    return row


def tokens_near(field: Field) -> SearchStrategy[str]:
    """JSON texts of single values: mostly ones that `field` takes, some odd ones, some beside its limits."""
    right = values_of(field).map(lambda value: json.dumps(value, ensure_ascii=False))
    beside = [json.dumps(value) for value in _beside(field)]
    near = st.sampled_from(beside) if beside else st.nothing()
    return st.one_of(right, right, right, near, st.sampled_from(ODD_TOKENS))


def _beside(field: Field) -> Sequence[Any]:
    """Values next to the limits of `field`."""
    if field.allowed is not None:
        return [value.upper() + "x" if isinstance(value, str) else value + 1 for value in field.allowed]
    bounds = [bound for bound in field.range or () if bound is not None and abs(bound) < 1e15]
    return [moved for bound in bounds for moved in (bound, bound - 1, bound + 1, int(bound), int(bound) + 1)]


@st.composite
def row_texts_near(draw: DrawFn, schema: Schema) -> str:
    """JSON objects that nearly are rows of `schema`: now and then a member is missing, unknown, odd or there twice."""
    members = [(field.name, draw(tokens_near(field))) for field in schema.fields]
    change = draw(st.sampled_from(["none", "none", "drop", "extra", "twice", "shuffle"]))
    if change == "drop":
        members.pop(draw(st.integers(0, len(members) - 1)))
    elif change == "extra":
        members.append((draw(field_names()), draw(st.sampled_from(ODD_TOKENS))))
    elif change == "twice":
        field = draw(st.sampled_from(schema.fields))
        members.append((field.name, draw(tokens_near(field))))
    elif change == "shuffle":
        members = draw(st.permutations(members))
    is_ascii = draw(st.booleans())
    return "{" + ", ".join(f"{json.dumps(name, ensure_ascii=is_ascii)}: {token}" for name, token in members) + "}"


@st.composite
def list_texts_near(draw: DrawFn, schema: Schema) -> str:
    """JSON arrays that nearly are rows of `schema` given by place."""
    tokens = [draw(tokens_near(field)) for field in schema.fields]
    change = draw(st.sampled_from(["none", "none", "none", "short", "long"]))
    if change == "short":
        tokens.pop()
    elif change == "long":
        tokens.append(draw(st.sampled_from(ODD_TOKENS)))
    return "[" + ", ".join(tokens) + "]"


@st.composite
def table_texts_near(draw: DrawFn, schema: Schema) -> str:
    """JSON objects that nearly are tables of `schema`: `{field: [values]}`, now and then of unequal length."""
    count = draw(st.integers(0, 3))
    members = []
    for field in schema.fields:
        length = draw(st.sampled_from([count] * 8 + [count + 1]))
        tokens = draw(st.lists(tokens_near(field), min_size=length, max_size=length))
        members.append((field.name, draw(st.sampled_from(["[" + ", ".join(tokens) + "]"] * 12 + ["3", "null"]))))
    if draw(st.integers(0, 5)) == 0:
        members.pop(draw(st.integers(0, len(members) - 1)))
    return "{" + ", ".join(f"{json.dumps(name)}: {values}" for name, values in members) + "}"
