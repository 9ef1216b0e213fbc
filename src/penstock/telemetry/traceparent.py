"""The caller's trace, out of the header `traceparent` (W3C Trace Context, level 1, section 3.2). Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

# Version ff is forbidden; a later version than 00 may go on after the flags, behind a dash.
_FORM: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 1


class Trace(msgspec.Struct, frozen=True, gc=False):
    """A trace that a caller has begun: its id (32 hex digits), the caller's span (16), and whether it is sampled."""

    trace_id: str
    parent_id: str
    is_sampled: bool


def trace_of(header: bytes) -> Trace | None:
    """The trace that a `traceparent` names; None where it is not as the standard has it, which begins a new trace."""
    found = _FORM.fullmatch(header)
    if found is None:
        return None
    version, trace_id, parent_id, flags, rest = found.groups()
    is_null = not trace_id.strip(b"0") or not parent_id.strip(b"0")
    if is_null or (version == b"00" and rest is not None):
        return None
    return Trace(trace_id.decode(), parent_id.decode(), bool(int(flags, 16) & _SAMPLED))
