"""What callers of one version would notice of another: its schema and outputs compared with the champion's. Pure.

A change is breaking when rows that the champion takes are refused by the candidate, or read as something else, or when
an answer lacks what callers of the champion read. Rows are meant as callers of the champion's schema write them:
members that it ignored are no part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from penstock.bundle.outputs import OutputSpec
from penstock.schema import Field, Scalar, Schema
from penstock.schema.check import LONGEST_TEXT

_TEXTS: Final = frozenset({"string", "category"})
_NUMBERS: Final = frozenset({"int", "float"})


class SchemaChange(msgspec.Struct, frozen=True):
    """One difference, in words; `is_breaking` for callers that work with the champion."""

    what: str
    is_breaking: bool


def schema_changes(champion: Schema, candidate: Schema) -> list[SchemaChange]:
    """How the rows that `candidate` takes differ from those of `champion`, field by field."""
    before = {field.name: field for field in champion.fields}
    after = {field.name: field for field in candidate.fields}
    found: list[SchemaChange] = []
    for name, field in before.items():
        found += _field_changes(field, after[name]) if name in after else [_removed(field, candidate)]
    found += [_added(field) for name, field in after.items() if name not in before]
    if [name for name in before if name in after] != [name for name in after if name in before]:
        found.append(SchemaChange("the order of the fields changed: rows given as lists would be read wrongly", True))
    if (champion.on_extra, candidate.on_extra) == ("ignore", "refuse"):
        found.append(SchemaChange("fields that the schema does not know are refused now (`on_extra`)", True))
    return found


def output_changes(champion: OutputSpec, candidate: OutputSpec) -> list[SchemaChange]:
    """How the answers of `candidate` differ in kind from those of `champion`."""
    if champion.kind != candidate.kind:
        return [SchemaChange(f"answers are of another kind: {champion.kind} → {candidate.kind}", True)]
    found = []
    if champion.class_keys != candidate.class_keys:
        found.append(SchemaChange(f"classes changed: {_regrouped(champion.class_keys, candidate.class_keys)}", True))
    elif champion.classes != candidate.classes:
        found.append(SchemaChange(f"labels are of another type: {champion.classes} → {candidate.classes}", True))
    if champion.targets != candidate.targets:
        was, now = champion.targets or ("one value",), candidate.targets or ("one value",)
        found.append(SchemaChange(f"targets changed: {', '.join(was)} → {', '.join(now)}", True))
    if champion.has_probabilities != candidate.has_probabilities:
        verb = "have no `probabilities` any more" if champion.has_probabilities else "have `probabilities` now"
        found.append(SchemaChange(f"answers {verb}", champion.has_probabilities))
    return found


def _regrouped(before: tuple[str, ...], after: tuple[str, ...]) -> str:
    gone, new = [key for key in before if key not in after], [key for key in after if key not in before]
    told = [f"without {_listed(gone)}"] * bool(gone) + [f"with {_listed(new)}"] * bool(new)
    return " and ".join(told) or f"in another order: {', '.join(before)} → {', '.join(after)}"


def _removed(field: Field, candidate: Schema) -> SchemaChange:
    is_refused = candidate.on_extra == "refuse"
    ends = "rows that have it are refused" if is_refused else "rows may still have it"
    return SchemaChange(f"field `{field.name}` was removed: {ends}", is_refused)


def _added(field: Field) -> SchemaChange:
    is_required = field.default is msgspec.UNSET
    ends = "is required" if is_required else f"has the default {field.default!r}"
    return SchemaChange(f"field `{field.name}` ({field.type}) is new and {ends}", is_required)


def _field_changes(before: Field, after: Field) -> Iterator[SchemaChange]:
    name = before.name
    if before.type != after.type:
        is_breaking = (before.type, after.type) != ("int", "float") and not {before.type, after.type} <= _TEXTS
        yield SchemaChange(f"field `{name}`: {before.type} → {after.type}", is_breaking)
        if is_breaking:
            return
    yield from _absence_changes(before, after)
    if before.coerce == "lenient" and after.coerce != "lenient":
        yield SchemaChange(f"field `{name}`: values of other types are not read any more (`coerce`)", True)
    elif before.coerce is True and not after.coerce and after.type == "int":
        yield SchemaChange(f"field `{name}`: 3.0 is not taken for 3 any more (`coerce`)", True)
    if before.type in _NUMBERS:
        yield from _number_changes(before, after)
    elif before.type in _TEXTS:
        yield from _text_changes(before, after)


def _absence_changes(before: Field, after: Field) -> Iterator[SchemaChange]:
    """What becomes of rows that do not have the field, or null in it."""
    name = before.name
    had_default, has_default = before.default is not msgspec.UNSET, after.default is not msgspec.UNSET
    if had_default and not has_default:
        yield SchemaChange(f"field `{name}`: it has no default any more, and is required", True)
    elif before.default != after.default:
        was = repr(before.default) if had_default else "none"
        yield SchemaChange(f"field `{name}`: the default is {after.default!r}, it was {was}", False)
    if _takes_null(before) and not _takes_null(after):
        yield SchemaChange(f"field `{name}`: null is refused now", True)
    elif _takes_null(after) and not _takes_null(before):
        yield SchemaChange(f"field `{name}`: null is taken now", False)


def _takes_null(field: Field) -> bool:
    return field.nullable or (field.coerce == "lenient" and field.default is not msgspec.UNSET)


def _number_changes(before: Field, after: Field) -> Iterator[SchemaChange]:
    name = before.name
    if before.allowed is not None or after.allowed is not None:
        yield from _allowed_changes(before, after)
    elif before.range != after.range:
        (low, high), (new_low, new_high) = before.range or (None, None), after.range or (None, None)
        is_narrower = (new_low is not None and (low is None or new_low > low)) or (
            new_high is not None and (high is None or new_high < high)
        )
        verb = "is narrower" if is_narrower else "is wider"
        yield SchemaChange(f"field `{name}`: the range {verb}: {_interval(before)} → {_interval(after)}", is_narrower)


def _allowed_changes(before: Field, after: Field) -> Iterator[SchemaChange]:
    """Of numbers, where one of the two takes only those that it names."""
    name = before.name
    if before.allowed is None:
        yield SchemaChange(f"field `{name}`: only {_listed(after.allowed or ())} are taken now", True)
        return
    low, high = after.range or (None, None)
    if after.allowed is not None:
        gone = [value for value in before.allowed if value not in after.allowed]
        new = [value for value in after.allowed if value not in before.allowed]
    else:
        gone = [value for value in before.allowed if not _is_within(value, low, high)]
        new = []
        yield SchemaChange(f"field `{name}`: numbers of {_interval(after)} are taken now", False)
    yield from _values_left(name, gone, new, is_breaking=True)


def _text_changes(before: Field, after: Field) -> Iterator[SchemaChange]:
    name = before.name
    takes_any, took_any = _takes_any_text(after), _takes_any_text(before)
    if took_any and _longest(before) > _longest(after):
        yield SchemaChange(f"field `{name}`: texts of more than {_longest(after)} characters are refused now", True)
    if took_any and not takes_any:
        yield SchemaChange(f"field `{name}`: only {_listed(after.allowed or ())} are taken now", True)
    elif takes_any and not took_any:
        yield SchemaChange(f"field `{name}`: other values than those named are taken now", False)
    elif before.on_unknown != after.on_unknown or before.unknown_as != after.unknown_as:
        was, now = _unknown(before), _unknown(after)
        yield SchemaChange(f"field `{name}`: unknown values are {now}, they were {was}", False)
    if before.allowed is not None and after.allowed is not None:
        gone = [value for value in before.allowed if value not in after.allowed]
        new = [value for value in after.allowed if value not in before.allowed]
        yield from _values_left(name, gone, new, is_breaking=not takes_any)


def _takes_any_text(field: Field) -> bool:
    return field.allowed is None or field.on_unknown != "refuse"


def _longest(field: Field) -> int:
    return max(
        [LONGEST_TEXT, *(len(value) for value in (*(field.allowed or ()), field.default) if isinstance(value, str))]
    )


def _unknown(field: Field) -> str:
    words = {"accept": "taken as they are", "map": f"read as {field.unknown_as!r}", "refuse": "taken as they are"}
    return words[field.on_unknown]


def _values_left(name: str, gone: list[Scalar], new: list[Scalar], *, is_breaking: bool) -> Iterator[SchemaChange]:
    if gone:
        verb = "is" if len(gone) == 1 else "are"
        what = "refused now" if is_breaking else "not known any more"
        yield SchemaChange(f"field `{name}`: {_listed(gone)} {verb} {what} (`allowed`)", is_breaking)
    if new:
        yield SchemaChange(f"field `{name}`: {_listed(new)} joined the allowed values", False)


def _is_within(value: Scalar, low: float | None, high: float | None) -> bool:
    return not isinstance(value, str) and (low is None or value >= low) and (high is None or value <= high)


def _interval(field: Field) -> str:
    low, high = field.range or (None, None)
    return f"[{'-∞' if low is None else f'{low:g}'}, {'∞' if high is None else f'{high:g}'}]"


def _listed(values: Iterable[object]) -> str:
    shown = sorted(repr(value) for value in values)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
