"""What Penstock's own metadata ask of other libraries, against what is installed."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Final

import msgspec

_LINE: Final = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*([^;]*?)\s*(?:;(.*))?$")
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_BOUND: Final = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9][0-9.]*)")
_COMPARE: Final[dict[str, Callable[[list[int], list[int]], bool]]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_OWN_WORK: Final = frozenset({"dev", "bench"})


class Requirement(msgspec.Struct, frozen=True):
    """One library that Penstock asks for: the range as text, and the extra that brings it (None: always needed)."""

    library: str
    bounds: str
    extra: str | None

    def takes(self, version: str) -> bool:
        """Whether the version is in the range; only numbers are compared."""
        return all(_COMPARE[sign](_numbers(version), _numbers(bound)) for sign, bound in _BOUND.findall(self.bounds))


def requirements_of(lines: Iterable[str]) -> list[Requirement]:
    """The requirements in lines as `importlib.metadata.requires` gives them; those of developing are left out."""
    found = []
    for line in lines:
        parts = _LINE.match(line)
        if parts is None:
            continue
        marker = parts[3] or ""
        extra = _EXTRA.search(marker)
        name = extra[1] if extra is not None else None
        if name not in _OWN_WORK and parts[1].lower() != "penstock" and "sys_platform" not in marker:
            found.append(Requirement(parts[1], parts[2], name))
    return found


def own_requirements() -> list[Requirement]:
    """What this installation of Penstock asks for."""
    return requirements_of(metadata.requires("penstock") or ())


def _numbers(version: str) -> list[int]:
    """`1.9.1rc1` as [1, 9, 1]; trailing zeros are cut, so that 2 and 2.0 are one."""
    numbers = [int(found) for found in re.findall(r"(?:^|\.)(\d+)", version)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers
