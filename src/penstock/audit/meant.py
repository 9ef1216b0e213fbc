"""Which calls an erasing means: by their ids, their models and when they came, whether erased already or not."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from penstock.audit.erase import Wanted, found
from penstock.audit.extra import require_audit
from penstock.audit.sealed import snapshot

_SEALED: Final = ("penstock.audit.erase_sealed", "sealed_calls")
Call: TypeAlias = tuple[str, str | None, datetime]
"""Request id, model, and when it came."""


class Meant(msgspec.Struct, frozen=True, kw_only=True):
    """The calls: `models` are theirs (empty: none), `first_at` and `last_at` None where there are none."""

    ids: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    first_at: datetime | None = None
    last_at: datetime | None = None


def meant_by(audit: Path, wanted: Wanted) -> Meant:
    """What is meant in the log below `audit`; `wanted` has pseudonyms. Raises MissingExtra where anything is sealed,
    SegmentError and OSError.
    """
    calls = list(_calls(audit, wanted))
    ats = [at for _, _, at in calls]
    return Meant(
        ids=frozenset(request_id for request_id, _, _ in calls),
        models=frozenset(model or "" for _, model, _ in calls),
        first_at=min(ats, default=None),
        last_at=max(ats, default=None),
    )


def _calls(audit: Path, wanted: Wanted) -> Iterator[Call]:
    taken = snapshot(audit)
    for path in taken.live:
        for record in found(path, wanted):
            yield record.request_id, record.model, record.at
    if taken.sealed:
        require_audit("erasing what is sealed")
        module, attribute = _SEALED
        yield from getattr(importlib.import_module(module), attribute)(taken, wanted)
