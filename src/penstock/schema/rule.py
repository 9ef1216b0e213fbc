"""One field as a `Rule`: its msgspec type for the typed pass, and what that type cannot say (`finish`)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from penstock.schema.columns import MISSING_TEXT
from penstock.schema.field import Field, Scalar
from penstock.schema.instant import EARLIEST, LATEST, Instant
from penstock.schema.lenient import number_of, text_of
from penstock.schema.soundness import LARGEST_FLOAT, LARGEST_INT
from penstock.schema.wording import expected_of

Value: TypeAlias = Scalar | datetime | None
Finish: TypeAlias = Callable[[Any], Value]
"""From a value that the type has let through to the final one; raises msgspec.ValidationError."""

RESERVED: Final = 'a text other than the reserved U+FFFF + "missing"'


class Rule:
    """What one field takes. `annotation` is its msgspec type; `finish` does the rest, None where there is no rest.

    An absent value is msgspec's UNSET: only a field with a default has it in its type. Immutable, so thread-safe.
    """

    def __init__(self, field: Field, attribute: str, longest_text: int) -> None:
        self.field = field
        self.attribute = attribute
        self._allowed = frozenset(field.allowed or ())
        self.longest_text = max([longest_text, *(len(text) for text in _own_texts(field))])
        self.expected = expected_of(field, self.longest_text)
        self.has_default = field.default is not msgspec.UNSET
        given: Any = self._type_when_given()
        self.given = given | None if field.nullable else given
        self.annotation = self.given | msgspec.UnsetType if self.has_default else self.given
        self._cell = msgspec.defstruct("Cell", [("value", self.given)])
        self._finish_given = self._finish_of_type()
        self._default: Value = self.take(field.default) if self.has_default else None
        self.finish: Finish | None = self._finish if self._finish_given is not None or self.has_default else None
        if not self.has_default and not field.nullable:
            self.finish = self._finish_given
        # For a free text only the reserved one is left to refuse, which `Check.settle` does for many at once.
        self.is_free_text = self._finish_given == self._finish_text and not self.has_default

    def take(self, value: object) -> Value:
        """The final value for a present `value` (decoded JSON, or a datetime); raises msgspec.ValidationError."""
        typed: Any = msgspec.convert({"value": value}, self._cell)
        return self._finish(typed.value)

    def refuse(self, expected: str | None = None) -> msgspec.ValidationError:
        """The error for a value that `finish` does not take."""
        return msgspec.ValidationError(f"Expected {expected or self.expected} - at `{self.field.name}`")

    def _type_when_given(self) -> Any:
        field = self.field
        if field.coerce == "lenient":
            return Annotated[str, msgspec.Meta(max_length=self.longest_text)] | int | float | bool | None
        if field.type == "int":
            return self._int_type()
        if field.type == "float":
            low, high = field.range or (None, None)
            # The outer bounds refuse NaN and the infinities, which no JSON has but a Python caller may send.
            return Annotated[float, _bounds(low, high, LARGEST_FLOAT)]
        if field.type == "bool":
            return bool
        if field.type == "timestamp":
            return Instant
        if field.allowed is not None and field.on_unknown == "refuse":
            return Literal[field.allowed]
        return Annotated[str, msgspec.Meta(max_length=self.longest_text)]

    def _int_type(self) -> Any:
        field = self.field
        if field.allowed is not None and not field.coerce:
            return Literal[field.allowed]
        low, high = field.range or (None, None)
        bounds = _bounds(low, high, LARGEST_INT)
        return Annotated[int, bounds] | Annotated[float, bounds] if field.coerce else Annotated[int, bounds]

    def _finish_of_type(self) -> Finish | None:
        """What the type could not say about a value that is there and not null."""
        field = self.field
        if field.coerce == "lenient":
            return self._finish_text_read if field.type in {"string", "category"} else self._finish_number_read
        if field.type == "timestamp":
            return self._finish_instant
        if field.type == "int" and field.coerce:
            return self._finish_coerced
        if field.type == "float" and field.allowed is not None:
            return self._finish_among
        if field.on_unknown == "map":
            return self._finish_mapped
        is_text = field.type in {"string", "category"}
        return self._finish_text if is_text and (field.allowed is None or field.on_unknown == "accept") else None

    def _finish(self, value: Any) -> Value:
        if value is msgspec.UNSET:
            return self._default
        if self._finish_given is None or (value is None and self.field.coerce != "lenient"):
            final: Value = value
        else:
            final = self._finish_given(value)
        return final

    def _finish_number_read(self, value: object) -> Value:
        number = number_of(value, whole=self.field.type == "int")
        if number is None:
            return self._in_place_of(value)
        low, high = self.field.range or (None, None)
        if self.field.type == "int" and abs(number) > LARGEST_INT:
            raise self.refuse()
        if (low is not None and number < low) or (high is not None and number > high):
            raise self.refuse()
        return number

    def _finish_text_read(self, value: object) -> Value:
        text = text_of(value)
        if text is None:
            return self._in_place_of(value)
        if self.field.on_unknown == "map":
            return self._finish_mapped(text)
        if self.field.allowed is not None and self.field.on_unknown == "refuse" and text not in self._allowed:
            raise self.refuse()
        return self._finish_text(text)

    def _in_place_of(self, value: object) -> Value:
        """The default, for what cannot be read as the field's type."""
        if not self.has_default:
            raise self.refuse()
        return self._default

    def _finish_instant(self, value: datetime) -> Value:
        # Nearly all are far inside the range, and comparing datetimes of different offsets is slow.
        if not 1677 < value.year < 2262 and not EARLIEST <= value <= LATEST:
            raise self.refuse()
        return value

    def _finish_coerced(self, value: float) -> Value:
        if isinstance(value, float):
            if not value.is_integer():
                raise self.refuse()
            value = int(value)
        return self._finish_among(value) if self.field.allowed is not None else value

    def _finish_among(self, value: float) -> Value:
        if value not in self._allowed:
            raise self.refuse()
        return value

    def _finish_mapped(self, value: str) -> Value:
        if value in self._allowed:
            return value
        return self.field.unknown_as if value != MISSING_TEXT else self._finish_text(value)

    def _finish_text(self, value: str) -> Value:
        if value == MISSING_TEXT:
            raise self.refuse(RESERVED)
        return value


def _bounds(low: float | None, high: float | None, largest: float) -> msgspec.Meta:
    """Bounds of the same type as `largest`; it closes an open end."""
    number = type(largest)
    return msgspec.Meta(ge=number(-largest if low is None else low), le=number(largest if high is None else high))


def _own_texts(field: Field) -> list[str]:
    return [value for value in (*(field.allowed or ()), field.default) if isinstance(value, str)]
