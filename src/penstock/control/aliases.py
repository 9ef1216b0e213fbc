"""What an alias may be called: `champion` and any other name; the older stages are accepted spellings."""

from __future__ import annotations

import re
from typing import Final

from penstock.errors import Unknown
from penstock.routing import CHAMPION

CANDIDATE: Final = "candidate"
SHADOW: Final = "shadow"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STAGES: Final = {"production": CHAMPION, "staging": CANDIDATE, "archived": None}


def alias_of(spelling: str) -> str | None:
    """The alias that is meant; None for `Archived`, which is to have no alias. Raises Unknown for what is no name."""
    name = spelling.lower()
    if name in _STAGES:
        return _STAGES[name]
    if not _NAME.fullmatch(spelling) or spelling.isdigit():
        raise Unknown(
            f"{spelling!r} cannot name an alias: up to 64 lower-case letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit, and not a number"
        )
    return spelling
