"""The second pass: when the typed decoder has refused, a slow walk over plain decoded JSON collects all violations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from penstock.errors import SchemaViolation, Violation
from penstock.schema.columns import MISSING_TEXT
from penstock.schema.rule import RESERVED, Rule
from penstock.schema.wording import UNDECLARED, counted, json_type, known_fields, shown, step_to

Form: TypeAlias = Literal["rows", "lists", "table", "row", "list"]
"""How rows are written: `[{field: value}]`, `[[value, …]]` in the schema's order, `{field: [value, …]}`, or one row."""

MOST_KEPT: Final = 100


class Findings(msgspec.Struct, frozen=True):
    """What a walk found: at most 100 `violations`, of `total`; `unnamed` as in `SchemaViolation`."""

    violations: list[Violation]
    total: int
    unnamed: dict[str, str]

    def error(self) -> SchemaViolation:
        """The failure that carries them."""
        return SchemaViolation(self.violations, self.total, self.unnamed)


class Walk:
    """One walk over what a caller sent; made anew for each, for it gathers what it finds."""

    def __init__(self, rules: Sequence[Rule], *, ignores_extra: bool) -> None:
        self._rules = rules
        self._by_name = {rule.field.name: rule for rule in rules}
        self._ignores_extra = ignores_extra
        self._kept: list[Violation] = []
        self._unnamed: dict[str, str] = {}
        self._total = 0

    def findings(self, objects: object, path: str, form: Form) -> Findings:
        """All violations in `objects`, which stand at `path` in what the caller sent."""
        if form == "row":
            self._row(objects, path)
        elif form == "list":
            self._list(objects, path)
        elif form == "table":
            self._table(objects, path)
        elif isinstance(objects, list | tuple):
            visit = self._row if form == "rows" else self._list
            for position, row in enumerate(objects):
                visit(row, f"{path}[{position}]")
        else:
            self._add(path, "an array of rows", json_type(objects))
        return Findings(self._kept, self._total, self._unnamed)

    def _add(self, path: str, expected: str, got: str) -> None:
        self._total += 1
        if len(self._kept) < MOST_KEPT:
            self._kept.append(Violation(path, expected, got))

    def _row(self, row: object, path: str) -> None:
        if not isinstance(row, Mapping):
            self._add(path, "an object with the fields of the schema", json_type(row))
            return
        for name, rule in self._by_name.items():
            if name in row:
                self._value(rule, row[name], path + step_to(name))
            elif not rule.has_default:
                self._add(path + step_to(name), rule.expected, "no value")
        self._extra(row, path)

    def _extra(self, members: Mapping[object, object], path: str) -> None:
        if self._ignores_extra:
            return
        for name, value in members.items():
            if name not in self._by_name:
                if len(self._kept) == MOST_KEPT:
                    self._total += 1
                    continue
                here = path + step_to(str(name))
                self._unnamed[here] = f"{path}.{UNDECLARED}"
                self._add(here, known_fields(str(name), tuple(self._by_name)), json_type(value))

    def _list(self, row: object, path: str) -> None:
        if not isinstance(row, list | tuple):
            self._add(path, "an array of values in the order of the schema", json_type(row))
            return
        if len(row) != len(self._rules):
            self._add(path, f"{counted(len(self._rules))}, one per field of the schema", counted(len(row)))
            return
        for position, (rule, value) in enumerate(zip(self._rules, row, strict=True)):
            self._value(rule, value, f"{path}[{position}]")

    def _table(self, table: object, path: str) -> None:
        if not isinstance(table, Mapping):
            self._add(path, "an object with one array per field of the schema", json_type(table))
            return
        first: tuple[str, int] | None = None
        for name, rule in self._by_name.items():
            here = path + step_to(name)
            if name not in table:
                if not rule.has_default:
                    self._add(here, "an array of values", "no value")
                continue
            column = table[name]
            if not isinstance(column, list | tuple):
                self._add(here, "an array of values", json_type(column))
                continue
            first = first or (name, len(column))
            if len(column) != first[1]:
                self._add(here, f"{counted(first[1])}, as many as `{first[0]}` has", counted(len(column)))
            for position, value in enumerate(column):
                self._value(rule, value, f"{here}[{position}]")
        self._extra(table, path)

    def _value(self, rule: Rule, value: object, path: str) -> None:
        try:
            rule.take(value)
        except msgspec.ValidationError:
            expected = RESERVED if value == MISSING_TEXT else rule.expected
            self._add(path, expected, shown(value, rule.field.pii) if len(self._kept) < MOST_KEPT else "")
