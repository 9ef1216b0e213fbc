"""`Masker`: takes personal data out of rows before they reach the log's buffer, by the `pii` class of their field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from penstock.audit.record import Content
from penstock.audit.tags import Masked, tag
from penstock.schema import Schema

_NESTED = Masked("nested")
_SHAPELESS = Masked("shapeless")


class Masker:
    """Made once per model from its schema; pure afterwards, so thread-safe.

    Without any `pii` class the checked rows are recorded as they are, at no cost.
    """

    def __init__(self, schema: Schema) -> None:
        self._names = schema.names
        self._masks = tuple(Masked(field.pii) if field.pii is not None else None for field in schema.fields)
        self._by_name = dict(zip(self._names, self._masks, strict=True))
        has_pii = any(mask is not None for mask in self._masks)
        # Such a name would be taken for a tag when the record is read.
        self._needs_tags = any(name.startswith("$") for name in self._names)
        self._has_pii = has_pii
        self.is_open = not has_pii and not self._needs_tags
        """Whether checked rows are kept as they are, so that `rows` need not be called."""

    def rows(self, rows: Sequence[msgspec.Struct]) -> Content:
        """Checked rows (structs whose attributes are the schema's fields, in its order) as `Record.input`.

        The rows themselves, or their JSON with `{"$masked": class}` for every value of a field with a `pii` class:
        null too, so that the record does not tell who left a field empty. Rows that are typed and not yet settled will
        do, too (what was sent, where defaults changed it): fields that are UNSET are left out.
        """
        if self._has_pii:
            return tag([self._masked_row(msgspec.structs.astuple(row)) for row in rows])
        return tag(rows) if self._needs_tags else rows

    def raw(self, rows: Sequence[object]) -> tuple[Content, int]:
        """What a caller sent, unchecked, as `Record.raw`, and how many values were dropped (`Record.undeclared`).

        A row may be an object (by field name) or a list (in schema order). Declared fields with a `pii` class are
        masked whatever their value is; undeclared ones are dropped and counted. Nested values in a declared field
        become `{"$masked": "nested"}` and rows of any other shape `{"$masked": "shapeless"}`: nobody declared what is
        in them.
        """
        undeclared = 0
        kept: list[object] = []
        for row in rows:
            if isinstance(row, Mapping):
                known = {name: value for name, value in row.items() if name in self._by_name}
                undeclared += len(row) - len(known)
                kept.append({name: _masked(value, self._by_name[name]) for name, value in known.items()})
            elif isinstance(row, list | tuple):
                undeclared += max(0, len(row) - len(self._masks))
                kept.append([_masked(value, mask) for value, mask in zip(row, self._masks, strict=False)])
            else:
                kept.append(_SHAPELESS)
        return tag(kept), undeclared

    def _masked_row(self, values: tuple[object, ...]) -> dict[str, object]:
        return {
            name: value if mask is None else mask
            for name, value, mask in zip(self._names, values, self._masks, strict=True)
            if value is not msgspec.UNSET
        }


def _masked(value: object, mask: Masked | None) -> object:
    if mask is not None:
        return mask
    return _NESTED if isinstance(value, Mapping | list | tuple) else value
