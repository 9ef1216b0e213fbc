"""`Field` and `Schema`: what one row is. Frozen values; kept in a bundle as readable YAML (`schema.yaml`).

A value of these types never contradicts itself: making one that would raises `SchemaError`.
"""

from __future__ import annotations

import math
from typing import Literal, NoReturn, TypeAlias

import msgspec

from penstock.errors import SchemaError
from penstock.schema.soundness import (
    LARGEST_INT,
    FieldType,
    Scalar,
    is_printable_word,
    is_text,
    name_fault,
    scalar_fault,
)

__all__ = ["Field", "FieldType", "OnUnknown", "Scalar", "Schema"]

OnUnknown: TypeAlias = Literal["refuse", "accept", "map"]
Coerce: TypeAlias = bool | Literal["lenient"]


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One column of a row. The value table of `docs/schema.md` says what each type takes and gives.

    - `name`: 1 to 256 characters of any script, without control characters, `"` and backslash.
    - `nullable`: null is a value. `default`: used when the field is absent (never for null).
    - `range`: inclusive bounds of a float or int; None leaves an end open.
    - `allowed`: the values of a category (or the only texts, ints or floats of another type).
    - `on_unknown`: what a category outside `allowed` does: `refuse` (422), `accept` (goes to the model as it is),
      `map` (becomes `unknown_as`).
    - `coerce`: with True an int also takes 3.0 and 1e2. With "lenient" any JSON scalar is read as the type (numbers
      from texts, fractions cut off for an int, texts from numbers), and null and what cannot be read become `default`.
    - `pii`: a class of personal data ("email"); such values never reach the log or an error body in clear, nor
      what a bundle says of its sample; golden rows have stand-ins.
    - `dtype`: the dtype of the column in the training frame; native models get it back.
    - `null_as`: what the training frame held for a missing value: NaN, None, pandas' NA, or `null_value`.

    Raises SchemaError when the options contradict each other; the message names the field and the mend.
    """

    name: str
    type: FieldType
    nullable: bool = False
    default: Scalar | msgspec.UnsetType = msgspec.UNSET
    range: tuple[float | None, float | None] | None = None
    allowed: tuple[Scalar, ...] | None = None
    on_unknown: OnUnknown = "refuse"
    unknown_as: str | None = None
    coerce: Coerce = False
    pii: str | None = None
    description: str | None = None
    dtype: str | None = None
    null_as: Literal["nan", "none", "na", "value"] = "nan"
    null_value: Scalar | None = None

    def __post_init__(self) -> None:
        if fault := name_fault(self.name):
            raise SchemaError(fault)
        _check_words(self)
        _check_coerce(self)
        _check_range(self)
        _check_allowed(self)
        _check_on_unknown(self)
        _check_default(self)
        _check_null(self)


class Schema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of a row, in order. `on_extra` says what a field that is not among them does.

    Raises SchemaError when there is no field, or two have one name.
    """

    fields: tuple[Field, ...]
    on_extra: Literal["refuse", "ignore"] = "refuse"

    def __post_init__(self) -> None:
        if not self.fields:
            raise SchemaError("expected at least one field, got none: name the columns that the model takes")
        seen: set[str] = set()
        for name in self.names:
            if name in seen:
                raise SchemaError(f"two fields are called `{name}`: rename or drop one of them")
            seen.add(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field:
        """The field called `name`; raises SchemaError naming the fields that there are."""
        for field in self.fields:
            if field.name == name:
                return field
        raise SchemaError(f"expected a field of the schema, got `{name}`: the fields are {', '.join(self.names)}")


def _refuse(field: Field, what: str) -> NoReturn:
    raise SchemaError(f"field `{field.name}`: {what}")


def _check_words(field: Field) -> None:
    for option, text in (("pii", field.pii), ("dtype", field.dtype)):
        if text is not None and not is_printable_word(text):
            _refuse(field, f"expected `{option}` to be a printable word, got {text!r}: name it or drop it")
    if field.description is not None and not is_text(field.description):
        _refuse(field, "`description` holds half of a surrogate pair, which UTF-8 cannot carry: type it again")


def _check_coerce(field: Field) -> None:
    if field.coerce is True and field.type != "int":
        _refuse(field, f"`coerce: true` is for an `int`, and this is a `{field.type}`: drop `coerce`")
    if field.coerce != "lenient":
        return
    if field.type in {"bool", "timestamp"}:
        _refuse(field, f"`coerce: lenient` is for numbers and texts, and this is a `{field.type}`: drop `coerce`")
    if field.nullable:
        _refuse(field, "with `coerce: lenient` null becomes the default: drop `nullable`, or `coerce`")
    if field.type in {"float", "int"} and field.allowed is not None:
        _refuse(field, "`coerce: lenient` does not go with `allowed` of numbers: use `range`, or drop `coerce`")


def _check_range(field: Field) -> None:
    if field.range is None:
        return
    if field.type not in {"float", "int"}:
        _refuse(field, f"`range` is for a `float` or an `int`, and this is a `{field.type}`: drop `range`")
    if field.allowed is not None:
        _refuse(field, "`range` and `allowed` both limit the values: drop one of them")
    low, high = field.range
    if low is None and high is None:
        _refuse(field, "`range` is open at both ends: drop it, or give an end")
    for bound in (low, high):
        _check_bound(field, bound)
    if low is not None and high is not None and low > high:
        _refuse(field, f"`range` is reversed: expected the lower bound first, got [{low}, {high}]: swap them")


def _check_bound(field: Field, bound: float | None) -> None:
    if bound is None:
        return
    if not math.isfinite(bound):
        _refuse(field, f"expected finite bounds in `range`, got {bound}: null leaves an end open")
    if field.type == "int" and (abs(bound) > LARGEST_INT or bound != int(bound)):
        _refuse(field, f"expected integer bounds up to 2**53 in `range` of an `int`, got {bound!r}: round it")


def _check_allowed(field: Field) -> None:
    if field.allowed is None:
        if field.type == "category" and field.on_unknown != "accept":
            _refuse(field, "a `category` needs `allowed`: list its values, or set `on_unknown: accept`")
        return
    if field.type in {"bool", "timestamp"}:
        _refuse(field, f"`allowed` is not for a `{field.type}`: drop it")
    if not field.allowed:
        _refuse(field, "`allowed` is empty, so that nothing could be sent: list the values, or drop it")
    for value in field.allowed:
        _check_scalar(field, "allowed", value)
    if len(set(field.allowed)) != len(field.allowed):
        _refuse(field, "a value stands twice in `allowed`: drop the second one")


def _check_on_unknown(field: Field) -> None:
    if field.on_unknown != "refuse" and field.type != "category":
        _refuse(field, f"`on_unknown` is for a `category`, and this is a `{field.type}`: drop it")
    if field.on_unknown == "map" and field.unknown_as is None:
        _refuse(field, "`on_unknown: map` needs `unknown_as`: name the allowed value that unknown ones become")
    if field.unknown_as is None:
        return
    if field.on_unknown != "map":
        _refuse(field, "`unknown_as` is for `on_unknown: map`: drop it, or set `on_unknown: map`")
    if field.allowed is not None and field.unknown_as not in field.allowed:
        _refuse(field, f"`unknown_as` {field.unknown_as!r} is not among `allowed`: add it there, or name another")


def _check_default(field: Field) -> None:
    value = field.default
    if isinstance(value, msgspec.UnsetType):
        return
    _check_scalar(field, "default", value)
    if field.allowed is not None and field.on_unknown != "accept" and value not in field.allowed:
        _refuse(field, f"`default` {value!r} is not among `allowed`: add it there, or name another")
    if field.range is not None and not isinstance(value, str):
        low, high = field.range
        if (low is not None and value < low) or (high is not None and value > high):
            _refuse(field, f"`default` {value!r} is outside `range`: widen the range, or change the default")


def _check_null(field: Field) -> None:
    if field.null_as != "value":
        if field.null_value is not None:
            _refuse(field, "`null_value` is for `null_as: value`: drop it, or set `null_as: value`")
        return
    if field.null_value is None:
        _refuse(field, "`null_as: value` needs `null_value`: name what the training rows held for a missing value")
    if not field.nullable:
        _refuse(field, "`null_as: value` is for a nullable field: set `nullable: true`, or drop `null_as`")
    _check_scalar(field, "null_value", field.null_value)


def _check_scalar(field: Field, option: str, value: object) -> None:
    if fault := scalar_fault(field.type, value):
        _refuse(field, f"`{option}`: {fault}")
