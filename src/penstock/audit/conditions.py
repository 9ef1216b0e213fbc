"""What is asked of the records: conditions of a search, as SQL and as what spares reading. Needs no library."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.audit.pseudonyms import KEY_FILE, Pseudonyms, open_pseudonyms
from penstock.audit.sealed import SealedFile
from penstock.errors import QueryRefused

_SHADOW: Final = "shadow"
_KINDS: Final = frozenset({"prediction", "refusal", "failure", "feedback", _SHADOW})


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """All of them must hold; None asks for nothing.

    - `request_id`, `principal`, `model`, `version` as in the record; `key`, `client_id` as one of these texts.
    - `since` (inclusive) and `until` (exclusive): when the call arrived; aware.
    - `outcome`: a kind (`prediction`, `refusal`, `failure`) or a code (`ok`, `schema_violation`). What shadows would
      have answered is given only to who asks for the kind `shadow`, or for a call by its id.
    - `where`: pairs of a field of the schema and a value as text (empty: missing), true of a row of the call.
    - `before`: a request id; only records older than that (for the next page).
    """

    request_id: str | None = None
    client_id: tuple[str, ...] | None = None
    key: tuple[str, ...] | None = None
    principal: str | None = None
    model: str | None = None
    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    outcome: str | None = None
    where: tuple[tuple[str, str], ...] = ()
    before: str | None = None

    def may_be_in(self, file: SealedFile) -> bool:
        """Whether `file` can hold such a record, by what the index says of it."""
        return not (
            (self.model is not None and file.model not in (None, self.model))
            or (self.since is not None and file.last_at < self.since)
            or (self.until is not None and file.first_at >= self.until)
            or (self.before is not None and file.first_id >= self.before)
            or (self.request_id is not None and not file.first_id <= self.request_id <= file.last_id)
        )

    def may_be(self, line: bytes) -> bool:
        """Whether the record in `line` can be one: a search for bytes, which spares decoding it."""
        wanted = (_one(self.request_id), self.client_id, self.key, _one(self.model))
        return all(any(_spelled(text) in line for text in texts) for texts in wanted if texts is not None)

    def as_sql(self, types: dict[str, str]) -> tuple[str, list[Any]]:
        """The condition and its parameters, for a table with columns of these types. Raises QueryRefused for a field
        that no record has.
        """
        parts: list[str] = ["true"]
        values: list[Any] = []
        for sql, value in (
            ("request_id = ?", self.request_id),
            ("list_contains(?, client_id)", self.client_id),
            ("list_contains(?, key)", self.key),
            ("principal = ?", self.principal),
            ("model = ?", self.model),
            ("version = ?", self.version),
            ("arrived_at >= ?", self.since),
            ("arrived_at < ?", self.until),
            ("kind = ?" if self.outcome in _KINDS else "code = ?", self.outcome),
            ("request_id < ?", self.before),
        ):
            if value is not None:
                parts.append(sql)
                values.append(list(value) if isinstance(value, tuple) else value)
        if self.outcome != _SHADOW and self.request_id is None:
            parts.append(f"kind <> '{_SHADOW}'")
        for name, value in self.where:
            sql, given = _of_a_row(name, value, types)
            parts.append(sql)
            values += given
        return " AND ".join(parts), values


def _of_a_row(name: str, value: str, types: dict[str, str]) -> tuple[str, list[str]]:
    column = next((given for given in types if given.casefold() == f"feature_{name}".casefold()), None)
    if column is None:
        known = ", ".join(sorted(given.removeprefix("feature_") for given in types if given.startswith("feature_")))
        raise QueryRefused(f"Expected a field that the records have values of ({known or 'none'}), got `{name}`")
    quoted, kind = quoted_name(column), types[column].removesuffix("[]")
    if not value:
        return f"len(list_filter({quoted}, lambda x: x IS NULL)) > 0", []
    return f"list_contains({quoted}, CAST(? AS {kind}))", [value]


def key_texts(home: Path, key: str | None) -> tuple[str, ...] | None:
    """How the key of an entity may stand in a record: in clear, or as its pseudonym."""
    return None if key is None else (key, *(each.of_key(key) for each in _pseudonyms(home)))


def client_id_texts(home: Path, client_id: str) -> tuple[str, ...]:
    """How a caller's id may stand in a record: in clear, or as its pseudonym."""
    return (client_id, *(each.of_client_id(client_id) for each in _pseudonyms(home)))


def _pseudonyms(home: Path) -> tuple[Pseudonyms, ...]:
    """Those of the home, if it has any: asking makes no key file."""
    return (open_pseudonyms(home),) if (home / KEY_FILE).exists() else ()


def quoted_name(name: str) -> str:
    """`name` as an identifier of SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _one(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else (text,)


def _spelled(text: str) -> bytes:
    """How `text` stands in a line of JSON."""
    return msgspec.json.encode(text)[1:-1]
