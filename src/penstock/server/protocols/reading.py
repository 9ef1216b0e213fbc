"""What all JSON protocols share: the typed decode, and when it fails the slow walk that finds every violation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from penstock.errors import SchemaViolation, TooLarge, Unreadable, Violation
from penstock.schema import Check, Form
from penstock.server.call import Asked, Reader

Located = tuple[Any, str, Form]
"""Rows in a generically decoded body, their JSON path, and the form they have."""

_CUT = "Input data was truncated"
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def checked(
    read: Reader, *, check: Check, max_rows: int, locate: Callable[[Any], Located | None], part: str = "the body"
) -> Reader:
    """What `read` makes of a body, or of the `part` of it that it gets; when its types do not fit, the slow walk over
    the rows that `locate` finds, if these are no more than `max_rows`.

    Raises Unreadable for what is no JSON, no UTF-8, nested too deep or another envelope, and SchemaViolation naming
    every place where the rows break the schema.
    """

    def read_checked(body: bytes) -> Asked:
        try:
            return read(body)
        except msgspec.ValidationError:
            sent = generic(body, part)
            located = locate(sent)
            if located is not None:
                _require_few(*located, max_rows)
            return _read_again(sent, read, check=check, located=located)
        except _MALFORMED as error:
            raise unreadable(error, body, part) from None

    return read_checked


def _require_few(rows: Any, path: str, form: Form, max_rows: int) -> None:
    """Raise TooLarge for too many rows, before a walk that takes microseconds for each."""
    if form == "table":
        count = max((len(values) for values in rows.values() if isinstance(values, list)), default=1)
    else:
        count = len(rows) if form in ("rows", "lists") else 1
    require_rows(max(count, 1), max_rows, path)


def _read_again(objects: Any, read: Reader, *, check: Check, located: Located | None) -> Asked:
    findings = None if located is None else check.violations(*located)
    if findings is not None and findings.total:
        raise findings.error()
    try:
        return read(msgspec.json.encode(objects))  # where a key is repeated only its last value counts
    except msgspec.ValidationError as error:
        raise Unreadable(str(error)) from None


def generic(body: bytes, part: str = "the body") -> Any:
    """The body as plain Python values. Raises Unreadable."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.ValidationError, *_MALFORMED) as error:
        raise unreadable(error, body, part) from None


def unreadable(error: Exception, body: bytes, part: str = "the body") -> Unreadable:
    """What a caller is told about a body that is no JSON, and where in it, or in the `part` of it that was read."""
    if isinstance(error, UnicodeDecodeError):
        place = _first_wrong_byte(body)
        return Unreadable(f"{part} is not UTF-8: byte {place} cannot begin or continue a character")
    if isinstance(error, RecursionError):
        return Unreadable(f"{part} is nested too deep to be read")
    if str(error) == _CUT:
        return Unreadable(f"JSON is malformed: {part} ends within a value (byte {len(body)})")
    return Unreadable(str(error) if part == "the body" else f"{error} of {part}")


def _first_wrong_byte(body: bytes) -> int:
    # msgspec counts from the beginning of the text that the byte is in.
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def require_rows(rows: int, max_rows: int, path: str) -> None:
    """Raise SchemaViolation for no rows, and TooLarge for more than `max_rows`."""
    if not rows:
        raise SchemaViolation([Violation(path, "at least one row", "none")])
    if rows > max_rows:
        raise TooLarge(f"{rows} rows in one call; server.max_rows is {max_rows}: send them in several calls")
