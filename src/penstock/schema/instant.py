"""Instants: RFC 3339 text with an offset, and the range that nanoseconds since 1970 can hold in 64 bits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias

import msgspec

from penstock.errors import SchemaError

Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
"""A datetime with an offset: what msgspec reads from RFC 3339 text; digits after the microsecond are rounded."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST: Final = EPOCH + timedelta(microseconds=-(2**63) // 1000 + 1)
LATEST: Final = EPOCH + timedelta(microseconds=(2**63 - 1) // 1000)

_MICROSECOND: Final = timedelta(microseconds=1)


class _Cell(msgspec.Struct):
    value: Instant


def instant_of(text: str) -> datetime:
    """The instant that RFC 3339 `text` names; raises SchemaError when it is none, naive or outside 1677..2262."""
    try:
        value = msgspec.convert({"value": text}, _Cell).value
    except msgspec.ValidationError as error:
        raise SchemaError(
            f"expected RFC 3339 text with an offset such as 2026-01-31T09:30:00Z, got {text!r}"
        ) from error
    if not EARLIEST <= value <= LATEST:
        raise SchemaError(f"expected an instant between {EARLIEST:%Y-%m-%d} and {LATEST:%Y-%m-%d}, got {text!r}")
    return value


def nanoseconds_of(value: datetime) -> int:
    """Nanoseconds from 1970-01-01T00:00:00Z to `value`, which has an offset."""
    return (value - EPOCH) // _MICROSECOND * 1000
