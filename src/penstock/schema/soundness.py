"""What a name, a text and a single value in a schema must be like; `schema/field.py` asks when a field is made."""

from __future__ import annotations

import sys
import unicodedata
from typing import Final, Literal, TypeAlias

from penstock.errors import SchemaError
from penstock.schema.columns import MISSING_TEXT
from penstock.schema.instant import instant_of

FieldType: TypeAlias = Literal["float", "int", "bool", "string", "category", "timestamp"]
Scalar: TypeAlias = bool | int | float | str

LARGEST_INT: Final = 2**53
LARGEST_FLOAT: Final = sys.float_info.max
LONGEST_NAME: Final = 256

_PYTHON_TYPES: Final[dict[FieldType, tuple[type, ...]]] = {
    "float": (float, int),
    "int": (int,),
    "bool": (bool,),
    "string": (str,),
    "category": (str,),
    "timestamp": (str,),
}


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it holds no half of a surrogate pair."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def is_printable_word(text: str) -> bool:
    """Whether `text` is more than spaces, valid Unicode and free of control characters."""
    return bool(text.strip()) and all(unicodedata.category(character) not in {"Cc", "Cs"} for character in text)


def name_fault(name: str) -> str | None:
    """What is wrong with a field's name, as a sentence with the mend; None when nothing is."""
    shown = repr(name[:40])
    if not name.strip() or len(name) > LONGEST_NAME:
        return (
            f"expected a field name of 1 to {LONGEST_NAME} characters, got {shown} ({len(name)} characters): "
            "rename the column"
        )
    # msgspec writes a name into JSON without escaping it, so it takes none that would need it.
    if not is_printable_word(name) or '"' in name or "\\" in name:
        return f'expected a field name without control characters, " and \\, got {shown}: rename the column'
    return None


def scalar_fault(kind: FieldType, value: object) -> str | None:
    """What keeps `value` from being one of a field of type `kind`, whatever its range and allowed values; else None."""
    if type(value) not in _PYTHON_TYPES[kind]:
        mend = "put it in quotes" if str in _PYTHON_TYPES[kind] else "write it as one"
        return f"expected a `{kind}`, got {value!r} ({type(value).__name__}): {mend}"
    if isinstance(value, str):
        return _text_fault(kind, value)
    if isinstance(value, int | float) and not abs(value) <= (LARGEST_INT if kind == "int" else LARGEST_FLOAT):
        return f"expected a finite `{kind}`{' of at most 2**53' if kind == 'int' else ''}, got {value}: make it smaller"
    return None


def _text_fault(kind: FieldType, text: str) -> str | None:
    if text == MISSING_TEXT or not is_text(text):
        return f"{text!r} is reserved or not valid Unicode: use another text"
    if kind == "timestamp":
        try:
            instant_of(text)
        except SchemaError as error:
            return str(error)
    return None
