"""What is asked of the records: conditions of a search, as SQL and as what spares reading. Needs no library."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.audit.pseudonyms import KEY_FILE, Pseudonyms, open_pseudonyms
from penstock.audit.sealed import SealedFile
from penstock.errors import QueryRefused

_SHADOW: Final = "shadow"
_KINDS: Final = frozenset({"prediction", "refusal", "failure", "feedback", _SHADOW})
_CURSOR: Final = "~"  # in no request id of ours
_SEQ_DIGITS: Final = 18
_AT: Final = b'"at":"'
_SECOND: Final = len("2026-11-20T11:43:12")


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """All of them must hold; None asks for nothing.

    - `request_id`, `principal`, `model`, `version` as in the record; `key`, `client_id` as one of these texts.
    - `since` (inclusive) and `until` (exclusive): when the call arrived; aware.
    - `outcome`: a kind (`prediction`, `refusal`, `failure`) or a code (`ok`, `schema_violation`). What shadows would
      have answered is given only to who asks for the kind `shadow`, or for a call by its id.
    - `where`: pairs of a field of the schema and a value as text (empty: missing), true of a row of the call.
    - `before`: where a page ended (`Found.next`), or a request id: only records behind it, the newest being first.
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
            or (self.before is not None and file.first_id > _id_of(self.before))
            or (self.request_id is not None and not file.first_id <= self.request_id <= file.last_id)
        )

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
        ):
            if value is not None:
                parts.append(sql)
                values.append(list(value) if isinstance(value, tuple) else value)
        if self.outcome != _SHADOW and self.request_id is None:
            parts.append(f"kind <> '{_SHADOW}'")
        if self.before is not None:
            sql, given = _behind(self.before)
            parts.append(sql)
            values += given
        for name, value in self.where:
            sql, given = _of_a_row(name, value, types)
            parts.append(sql)
            values += given
        return " AND ".join(parts), values


class Sieve:
    """What spares decoding a line: a search for bytes that must stand in it. Thread-safe; `is_open`: lets all pass."""

    def __init__(self, conditions: Conditions) -> None:
        texts = (_one(conditions.request_id), conditions.client_id, conditions.key, _one(conditions.model))
        self._wanted = [tuple(map(_spelled, one)) for one in texts if one is not None]
        self._since, self._until = _second(conditions.since), _second(conditions.until)
        self.is_open = not self._wanted and self._since is None and self._until is None

    def may_be_among(self, lines: bytes) -> bool:
        """Whether a record in some lines may be one that is asked for."""
        return all(any(text in lines for text in texts) for texts in self._wanted)

    def may_be(self, line: bytes) -> bool:
        """Whether the record in `line` may be one."""
        for texts in self._wanted:
            if not any(text in line for text in texts):
                return False
        at = line.find(_AT) + len(_AT)
        second = line[at : at + _SECOND]
        return (self._since is None or second >= self._since) and (self._until is None or second <= self._until)


def cursor_of(request_id: str, run: str, seq: int) -> str:
    """Where a page ended, for `before`. Records can share a request id (feedback has that of its prediction)."""
    return f"{request_id}{_CURSOR}{run}{_CURSOR}{seq}"


def _id_of(before: str) -> str:
    return before.split(_CURSOR)[0]


def _behind(before: str) -> tuple[str, list[Any]]:
    id, *rest = before.split(_CURSOR)
    if not rest:
        return "request_id < ?", [id]
    if len(rest) != 2 or not rest[1].isdecimal() or len(rest[1]) > _SEQ_DIGITS:
        raise QueryRefused("Expected `before` to be a request id, or what a page named as next, got something else")
    return "request_id <= ? AND (request_id, run, seq) < (?, ?, ?)", [id, id, rest[0], int(rest[1])]


def _of_a_row(name: str, value: str, types: dict[str, str]) -> tuple[str, list[Any]]:
    column = next((given for given in types if given.casefold() == f"feature_{name}".casefold()), None)
    if column is None:
        known = ", ".join(sorted(given.removeprefix("feature_") for given in types if given.startswith("feature_")))
        raise QueryRefused(f"Expected a field that the records have values of ({known or 'none'}), got `{name}`")
    quoted, kind = quoted_name(column), types[column].removesuffix("[]")
    if kind == types[column]:  # of a row, not of a call
        return (f"{quoted} = CAST(? AS {kind})", [value]) if value else (f"{quoted} IS NULL", [])
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


def _second(moment: datetime | None) -> bytes | None:
    """How the second of `moment` stands in a record."""
    return None if moment is None else moment.astimezone(UTC).isoformat()[:_SECOND].encode()


def _one(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else (text,)


def _spelled(text: str) -> bytes:
    """How `text` stands in a line of JSON."""
    return msgspec.json.encode(text)[1:-1]
