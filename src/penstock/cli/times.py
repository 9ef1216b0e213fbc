"""Moments as people type and read them: in, RFC 3339, dates and "2h ago"; out, local time with its offset."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_AGO: Final = re.compile(r"-?\s*(\d{1,9})\s*(s|m|min|h|d|w)(\s+ago)?", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime) -> datetime:
    """The moment that `text` names: `2026-11-20T18:00:00Z`, `2026-11-20 18:00`, `2026-11-20`, `2h ago`, `-2h`.

    A date is its first moment. Without an offset it is local time. Raises ValueError saying what is expected.
    """
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return now if text.strip() == "now" else datetime.fromisoformat(text.strip()).astimezone(now.tzinfo)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"expected a time as in 2026-11-20T18:00:00Z, 2026-11-20 18:00 (local time), 2026-11-20 or 2h ago, "
            f"got {text!r}"
        ) from error


def shown(at: datetime) -> str:
    """A moment in local time, to the second."""
    return at.astimezone().isoformat(" ", "seconds")


def since(at: datetime, now: datetime) -> str:
    """A moment, and how long ago it was."""
    past_s = (now - at).total_seconds()
    for unit, length_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if past_s >= 2 * length_s:
            return f"{shown(at)} ({past_s / length_s:.0f} {unit} ago)"
    return f"{shown(at)} ({max(past_s, 0):.0f} s ago)"
