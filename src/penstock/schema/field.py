"""`Field` and `Schema`: what one row is. Frozen values; kept in a bundle as readable YAML (`schema.yaml`)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

FieldType: TypeAlias = Literal["float", "int", "bool", "string", "category", "timestamp"]
Scalar: TypeAlias = bool | int | float | str


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One column of a row. The value table of `docs/schema.md` says what each type takes and gives.

    - `nullable`: null is a value. `default`: used when the field is absent (never for null).
    - `range`: inclusive bounds of a float or int; None leaves an end open.
    - `allowed`: the values of a category (or the only texts, ints or floats of another type).
    - `on_unknown`: what a category outside `allowed` does: `refuse` (422), `accept` (goes to the model as it is),
      `map` (becomes `unknown_as`).
    - `coerce`: an int also takes 3.0 and 1e2.
    - `pii`: a class of personal data ("email"); such values never reach the log, an error body or golden rows in clear.
    - `dtype`: the dtype of the column in the training frame; native models get it back.
    - `null_as`: what the training frame held for a missing value: NaN, None, pandas' NA, or `null_value`.
    """

    name: str
    type: FieldType
    nullable: bool = False
    default: Scalar | msgspec.UnsetType = msgspec.UNSET
    range: tuple[float | None, float | None] | None = None
    allowed: tuple[Scalar, ...] | None = None
    on_unknown: Literal["refuse", "accept", "map"] = "refuse"
    unknown_as: str | None = None
    coerce: bool = False
    pii: str | None = None
    description: str | None = None
    dtype: str | None = None
    null_as: Literal["nan", "none", "na", "value"] = "nan"
    null_value: Scalar | None = None


class Schema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The fields of a row, in order. `on_extra` says what a field that is not among them does."""

    fields: tuple[Field, ...]
    on_extra: Literal["refuse", "ignore"] = "refuse"

    @property
    def names(self) -> tuple[str, ...]:
        """The fields' names, in order."""
        return tuple(field.name for field in self.fields)
