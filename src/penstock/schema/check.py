"""The compiled check: built once per schema, used at packing, online and in batch.

The typed pass is msgspec's: the server decodes envelopes that hold `list[check.row]`, then `settle`s them. Only when
one of the two raises msgspec.ValidationError does the `second_pass` look for everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter, is_not
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import astuple, replace

from penstock.schema.columns import MISSING_TEXT, Columns
from penstock.schema.field import Schema
from penstock.schema.layout import Layout
from penstock.schema.plain import plain_row
from penstock.schema.rule import RESERVED, Rule
from penstock.schema.walk import Findings, Form, Walk

Row: TypeAlias = msgspec.Struct
"""A row as `Check.row` makes it: attributes f0, f1, … in the schema's order, encoded under the fields' names."""

LONGEST_TEXT: Final = 8192


class Batch(msgspec.Struct, frozen=True):
    """Checked rows with their final values; `changed` tells that a default, a mapping or a coercion was applied."""

    rows: list[Row]
    changed: bool


class Check:
    """What a schema takes, compiled. Immutable after construction, so thread-safe.

    - `row`: the Struct type of a row given as an object. Usable inside other types. A field with a default that is
      absent is UNSET until `settle`.
    - `table`: the Struct type of rows given as columns, `{field: [values]}`; `rows_of_table` makes rows of it.
    - `positional`: the Struct type of a row given as an array in the schema's order; `rows_of_lists` makes them rows.

    `max_text` limits the characters of a free text (texts that the schema itself names may be longer).
    """

    def __init__(self, schema: Schema, max_text: int = LONGEST_TEXT) -> None:
        self.schema = schema
        self._rules = [Rule(field, f"f{index}", max_text) for index, field in enumerate(schema.fields)]
        self._free_texts = _getter([rule.attribute for rule in self._rules if rule.is_free_text])
        self._late = [
            (rule.attribute, rule.finish) for rule in self._rules if rule.finish is not None and not rule.is_free_text
        ]
        self._has_defaults = any(rule.has_default for rule in self._rules)
        self._layout = Layout(schema)
        self.row: type[Row] = self._struct("Row", {rule: rule.annotation for rule in self._rules})
        self.table: type[Row] = self._struct("Table", {rule: _list_of(rule) for rule in self._rules})
        self.positional: type[Row] = msgspec.defstruct(
            "Positional",
            [(rule.attribute, rule.given) for rule in self._rules],
            array_like=True,
            forbid_unknown_fields=True,
            frozen=True,
            gc=False,
        )

    def _struct(self, name: str, types: dict[Rule, Any]) -> type[Row]:
        fields = []
        for rule, annotation in types.items():
            default = msgspec.UNSET if rule.has_default else msgspec.NODEFAULT
            fields.append((rule.attribute, annotation, msgspec.field(name=rule.field.name, default=default)))
        # Rows hold scalars only, so that the garbage collector need not look at them.
        return msgspec.defstruct(
            name,
            fields,
            forbid_unknown_fields=self.schema.on_extra == "refuse",
            kw_only=self._has_defaults,
            frozen=True,
            gc=name != "Row",
        )

    @property
    def is_final(self) -> bool:
        """Whether typed rows are final as they come, so that `settle` need not be called."""
        return self._free_texts is None and not self._late

    def settle(self, rows: list[Row]) -> Batch:
        """Final values of typed `rows`: defaults, mappings, coercions. The given rows stay as they came.

        Raises msgspec.ValidationError, as the decoder does, for what its types could not say.
        """
        if self._free_texts is not None:
            for row in rows:
                if MISSING_TEXT in self._free_texts(row):
                    raise msgspec.ValidationError(f"Expected {RESERVED}")
        if not self._late:
            return Batch(rows, False)
        settled = [self._settled(row) for row in rows]
        return Batch(settled, any(map(is_not, settled, rows)))

    def _settled(self, row: Row) -> Row:
        changes: dict[str, object] = {}
        for attribute, finish in self._late:
            value = getattr(row, attribute)
            final = finish(value)
            if final is not value:
                changes[attribute] = final
        return replace(row, **changes) if changes else row

    def columns(self, rows: Sequence[Row]) -> Columns:
        """Settled `rows` as arrays: one of n values per field, in the schema's order, dtypes as `Columns` states."""
        return self._layout.columns(rows)

    def rows_of_table(self, table: Row) -> list[Row]:
        """The rows of a decoded `table`; raises msgspec.ValidationError when its columns differ in length."""
        columns = astuple(table)
        lengths = {len(column) for column in columns if column is not msgspec.UNSET}
        if len(lengths) > 1:
            raise msgspec.ValidationError("Expected columns of one length")
        absent = [msgspec.UNSET] * (lengths.pop() if lengths else 0)
        return self._of_values(zip(*(absent if column is msgspec.UNSET else column for column in columns), strict=True))

    def rows_of_lists(self, lists: Sequence[Row]) -> list[Row]:
        """The rows of decoded `positional` ones."""
        return self._of_values(map(astuple, lists))

    def _of_values(self, values: Iterable[tuple[Any, ...]]) -> list[Row]:
        if not self._has_defaults:
            return [self.row(*row) for row in values]
        attributes = [rule.attribute for rule in self._rules]
        return [self.row(**dict(zip(attributes, row, strict=True))) for row in values]

    def from_objects(self, rows: Sequence[Mapping[str, object]]) -> Batch:
        """Final rows of Python `rows`: dicts whose values may be NumPy scalars, datetimes, NaN, NaT or NA for missing.

        Raises SchemaViolation with all violations; its paths begin with `$[0]`.
        """
        plain = [plain_row(row) for row in rows]
        try:
            return self.settle(self._converted(plain, "rows"))
        except msgspec.ValidationError:
            return self.second_pass(plain)

    def second_pass(self, objects: object, path: str = "$", form: Form = "rows") -> Batch:
        """Final rows of generically decoded `objects`, for when the typed pass has refused the same bytes.

        Raises SchemaViolation with all violations. It gives rows only where a key stands twice: the typed decoder
        judges each of the two values, whereas only the last one counts.
        """
        findings = self.violations(objects, path, form)
        if findings.total:
            raise findings.error()
        return self.settle(self._converted(objects, form))

    def _converted(self, objects: Any, form: Form) -> list[Row]:
        if form == "table":
            return self.rows_of_table(msgspec.convert(objects, self.table))
        many = objects if form in {"rows", "lists"} else [objects]
        if form in {"lists", "list"}:
            return self.rows_of_lists([msgspec.convert(one, self.positional) for one in many])
        return [msgspec.convert(one, self.row) for one in many]

    def violations(self, objects: object, path: str = "$", form: Form = "rows") -> Findings:
        """Every place where generically decoded `objects`, found at `path` in what the caller sent, break the schema.

        It finds at least one wherever the typed pass refuses JSON of that `form` without repeated keys, and none where
        it does not.
        """
        return Walk(self._rules, ignores_extra=self.schema.on_extra == "ignore").findings(objects, path, form)


def _getter(attributes: list[str]) -> Callable[[Row], tuple[Any, ...]] | None:
    """A function that takes these attributes of a row, as a tuple; None when there are none."""
    # One of them is taken twice: of a single attribute, attrgetter would give the bare value.
    return attrgetter(attributes[0], *attributes) if attributes else None


def _list_of(rule: Rule) -> Any:
    column: Any = list[rule.given]  # type: ignore[name-defined]
    return column | msgspec.UnsetType if rule.has_default else column
