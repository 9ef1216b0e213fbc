"""How operators spell aliases (any name, or an older stage) and versions (numbers, `latest`, content digests)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from penstock.errors import Unknown
from penstock.routing import CHAMPION, listed

CANDIDATE: Final = "candidate"
LATEST: Final = "latest"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_STAGES: Final = {"production": CHAMPION, "staging": CANDIDATE, "archived": None}
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{8,64}")


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


def version_of(model: str, digests: Mapping[int, str], spelling: str) -> int:
    """The number of the version of `model` that is meant, among those of `digests`: `latest`, or the beginning of its
    content digest. Raises Unknown naming those that there are.
    """
    if spelling == LATEST and digests:
        return max(digests)
    found = [
        number for number, digest in digests.items() if _DIGEST.fullmatch(spelling) and digest.startswith(spelling)
    ]
    if len(found) != 1:
        raise Unknown(
            f"{spelling!r} is no version of {model!r}: expected a number ({listed(digests)}), `latest`, or a content "
            "digest of which no other begins so (`sha256:` and at least 8 digits)"
        )
    return found[0]
