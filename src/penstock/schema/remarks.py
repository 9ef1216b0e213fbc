"""What inference points out about a column, for a person to decide: ids, constants, flags, sentinels, personal data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np

from penstock.schema.field import Field

Topic: TypeAlias = Literal[
    "constant", "date", "flag", "id", "infinite", "missing", "naive",
    "number", "ordered", "personal", "precision", "rare", "sentinel", "whole",
]  # fmt: skip

LEAST_ID_ROWS: Final = 20
ID_SHARE: Final = 0.99
_LOOKED_AT: Final = 1000
_LOW_SENTINELS: Final = (-1, -9, -99, -999, -9999, -99999)
_HIGH_SENTINELS: Final = (99, 999, 9999, 99999, 999999)

_DATE: Final = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( .*)?")
_NUMBER: Final = re.compile(r"\s*[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?\s*")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

_PERSONAL_WORDS: Final = {
    "email": "email", "mail": "email",
    "phone": "phone", "telephone": "phone", "mobile": "phone", "tel": "phone",
    "ssn": "national_id", "passport": "national_id", "nin": "national_id",
    "iban": "account", "pan": "account",
    "name": "name", "surname": "name", "firstname": "name", "lastname": "name", "fullname": "name", "username": "name",
    "address": "address", "street": "address", "zip": "address", "zipcode": "address", "postcode": "address",
    "birthday": "birth_date", "birthdate": "birth_date", "dob": "birth_date", "birth": "birth_date",
    "ip": "ip_address",
}  # fmt: skip
_PERSONAL_SIGNS: Final = {
    "姓名": "name", "手机": "phone", "电话": "phone", "邮箱": "email", "地址": "address", "身份证": "national_id",
}  # fmt: skip


class Note(msgspec.Struct, frozen=True):
    """Something about a field that inference did not decide: what was seen, and what could be done."""

    field: str
    topic: Topic
    message: str


def remarks(field: Field, values: np.ndarray) -> Iterator[Note]:
    """Notes on `field`, whose values in the sample, missing ones left out, are `values` (float64, or object of str)."""
    distinct, counts = np.unique(values, return_counts=True)
    pii = _personal_class(field.name, distinct)
    if len(distinct) == 1:
        shown = "" if pii else f" ({distinct[0]!s:.40})"
        yield Note(field.name, "constant", f"one value in all rows{shown}: the model learns nothing from it")
    elif field.type in {"int", "string"} and len(values) >= LEAST_ID_ROWS and len(distinct) >= ID_SHARE * len(values):
        yield Note(
            field.name, "id", f"{len(distinct)} distinct values in {len(values)} rows: an id? then drop the column"
        )
    if field.type in {"int", "float"}:
        yield from _about_numbers(field, distinct)
    elif field.type in {"string", "category"}:
        yield from _about_texts(field, distinct.tolist(), counts)
    # What has few values that repeat says nothing of a person, even if it is called PhoneService.
    if pii and field.type not in {"bool", "category"}:
        yield Note(field.name, "personal", f"looks like personal data: set `pii: {pii}`, and it is masked in records")


def _about_numbers(field: Field, distinct: np.ndarray) -> Iterator[Note]:
    """`distinct` is sorted."""
    if not np.isfinite(distinct).all():
        yield Note(field.name, "infinite", "the sample holds infinite values, which JSON cannot send: replace them")
        distinct = distinct[np.isfinite(distinct)]
    if set(distinct.tolist()) == {0, 1}:
        yield Note(field.name, "flag", "holds only 0 and 1: kept as a number; `type: bool` would take true and false")
    elif field.type == "float" and len(distinct) > 1 and bool((distinct == np.round(distinct)).all()):
        yield Note(
            field.name, "whole", "a float whose values are all whole: kept as `float`; `type: int` would refuse 2.5"
        )
    if len(distinct) > 2:
        low, second, below, high = (float(distinct[place]) for place in (0, 1, -2, -1))
        if low in _LOW_SENTINELS and second >= 0:
            yield _sentinel(field, low)
        if high in _HIGH_SENTINELS and below < high / 2:
            yield _sentinel(field, high)


def _sentinel(field: Field, value: float) -> Note:
    return Note(
        field.name,
        "sentinel",
        f"{value:.0f} stands apart from the other values: if it means missing, send null, with `nullable: true`, "
        f"`null_as: value` and `null_value: {value:.0f}`",
    )


def _about_texts(field: Field, distinct: Sequence[str], counts: np.ndarray) -> Iterator[Note]:
    seen = distinct[:_LOOKED_AT]
    if all(_DATE.fullmatch(text.strip()) for text in seen):
        yield Note(
            field.name, "date", "texts that look like dates: the model sees texts; parse them for `type: timestamp`"
        )
    elif all(_NUMBER.fullmatch(text) for text in seen if text.strip()):
        yield Note(field.name, "number", 'texts that look like numbers: kept as texts ("001" is not 1)')
    rare = int((counts == 1).sum())
    if field.type == "category" and rare:
        yield Note(field.name, "rare", f"{rare} values occur once: other rare ones may come; see `on_unknown`")


def _personal_class(name: str, distinct: np.ndarray) -> str | None:
    """A class of personal data that the column's name, or its values, suggest."""
    for word in _WORD.findall(name):
        if found := _PERSONAL_WORDS.get(word.lower()):
            return found
    for sign, found in _PERSONAL_SIGNS.items():
        if sign in name:
            return found
    texts = [value for value in distinct[:_LOOKED_AT].tolist() if isinstance(value, str)]
    return "email" if are_addresses(texts) else None


def are_addresses(texts: Sequence[str]) -> bool:
    """Whether more than half of the texts look like e-mail addresses."""
    return sum(_EMAIL.fullmatch(text) is not None for text in texts) * 2 > len(texts)
