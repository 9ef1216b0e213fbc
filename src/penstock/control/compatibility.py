"""What callers of one version would notice of another: its schema and outputs compared with the champion's. Pure.

A change is breaking when rows that the champion takes are refused by the candidate, or when an answer lacks what
callers of the champion read.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

import msgspec

from penstock.bundle.outputs import OutputSpec
from penstock.schema import Field, Schema


class SchemaChange(msgspec.Struct, frozen=True):
    """One difference, in words; `is_breaking` for callers that work with the champion."""

    what: str
    is_breaking: bool


def schema_changes(champion: Schema, candidate: Schema) -> list[SchemaChange]:
    """How the rows that `candidate` takes differ from those of `champion`, field by field."""
    before = {field.name: field for field in champion.fields}
    after = {field.name: field for field in candidate.fields}
    found = []
    for name, field in before.items():
        if name in after:
            found += _field_changes(field, after[name])
        else:
            refused = candidate.on_extra == "refuse"
            ends = "rows that have it are refused" if refused else "rows may still have it"
            found.append(SchemaChange(f"field `{name}` was removed: {ends}", refused))
    found += [_added(field) for name, field in after.items() if name not in before]
    if (champion.on_extra, candidate.on_extra) == ("ignore", "refuse"):
        found.append(SchemaChange("fields that the schema does not know are refused now (on_extra)", True))
    return found


def output_changes(champion: OutputSpec, candidate: OutputSpec) -> list[SchemaChange]:
    """How the answers of `candidate` differ in kind from those of `champion`."""
    if champion.kind != candidate.kind:
        return [SchemaChange(f"answers are of another kind: {champion.kind} → {candidate.kind}", True)]
    found = []
    if champion.class_keys != candidate.class_keys:
        gone = _listed(set(champion.class_keys) - set(candidate.class_keys))
        new = _listed(set(candidate.class_keys) - set(champion.class_keys))
        told = [f"without {gone}"] * bool(gone) + [f"with {new}"] * bool(new) or ["in another order"]
        found.append(SchemaChange(f"classes changed: {' and '.join(told)}", bool(gone or new)))
    if champion.targets != candidate.targets:
        found.append(SchemaChange(f"targets changed: {champion.targets} → {candidate.targets}", True))
    if champion.has_probabilities and not candidate.has_probabilities:
        found.append(SchemaChange("answers have no `probabilities` any more", True))
    return found


def _added(field: Field) -> SchemaChange:
    if field.default is msgspec.UNSET and field.coerce != "lenient":
        return SchemaChange(f"field `{field.name}` ({field.type}) is new and required", True)
    return SchemaChange(f"field `{field.name}` ({field.type}) is new and has a default", False)


def _field_changes(before: Field, after: Field) -> Iterator[SchemaChange]:
    name = before.name
    if before.type != after.type:
        is_wider = (before.type, after.type) in {("int", "float"), ("category", "string")}
        yield SchemaChange(f"field `{name}`: {before.type} → {after.type}", not is_wider)
    if before.nullable and not after.nullable and after.coerce != "lenient":
        yield SchemaChange(f"field `{name}`: null is refused now", True)
    if before.default is not msgspec.UNSET and after.default is msgspec.UNSET:
        yield SchemaChange(f"field `{name}`: it has no default any more, and is required", True)
    elif before.default != after.default and before.default is not msgspec.UNSET:
        yield SchemaChange(f"field `{name}`: the default is {after.default!r} instead of {before.default!r}", False)
    if before.coerce and not after.coerce:
        yield SchemaChange(f"field `{name}`: values of other types are not coerced any more", True)
    yield from _range_changes(before, after)
    yield from _allowed_changes(before, after)


def _range_changes(before: Field, after: Field) -> Iterator[SchemaChange]:
    if before.range == after.range:
        return
    (low, high), (new_low, new_high) = before.range or (None, None), after.range or (None, None)
    is_narrower = (new_low is not None and (low is None or new_low > low)) or (
        new_high is not None and (high is None or new_high < high)
    )
    was, now = _interval(low, high), _interval(new_low, new_high)
    verb = "narrowed" if is_narrower else "widened"
    yield SchemaChange(f"field `{before.name}`: the range {verb} from {was} to {now}", is_narrower)


def _allowed_changes(before: Field, after: Field) -> Iterator[SchemaChange]:
    name = before.name
    takes_any = after.allowed is None or (after.type == "category" and after.on_unknown != "refuse")
    took_any = before.allowed is None or (before.type == "category" and before.on_unknown != "refuse")
    if took_any and not takes_any:
        yield SchemaChange(f"field `{name}`: only {len(after.allowed or ())} values are taken now", True)
    gone = set(before.allowed or ()) - set(after.allowed or ()) if after.allowed is not None else set()
    if gone:
        yield SchemaChange(f"field `{name}`: {_listed(gone)} left the allowed values", not takes_any)
    new = set(after.allowed or ()) - set(before.allowed or ()) if before.allowed is not None else set()
    if new:
        yield SchemaChange(f"field `{name}`: {_listed(new)} joined the allowed values", False)


def _interval(low: float | None, high: float | None) -> str:
    return f"[{'-∞' if low is None else f'{low:g}'}, {'∞' if high is None else f'{high:g}'}]"


def _listed(values: Set[object]) -> str:
    shown = sorted(repr(value) for value in values)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
