"""Figures as text: spreads, ratios, bars with their verdict, tables, and the parts of a document that are ours."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

DOCS = Path(__file__).parent.parent / "docs"
PERFORMANCE = DOCS / "performance.md"

Unit = Literal["%", "×", "ms", "s", "µs", "MiB", ""]


class Spread(msgspec.Struct, frozen=True):
    """The median of several measurements, and the lowest and highest."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        held = sorted(values)
        return cls(statistics.median(held), held[0], held[-1])

    def text(self, form: str = ",.0f") -> str:
        """`12 (10 to 15)`"""
        return f"{self.middle:{form}} ({self.low:{form}} to {self.high:{form}})"


class Bar(msgspec.Struct, frozen=True):
    """What was asked for, and what was measured. `most` bars are met from below."""

    what: str
    measured: Spread
    asked: float
    unit: Unit
    most: bool = False

    @property
    def is_met(self) -> bool:
        return self.measured.middle <= self.asked if self.most else self.measured.middle >= self.asked

    def row(self) -> list[str]:
        """Its row in the table of bars."""
        limit = f"{'at most' if self.most else 'at least'} {_with_unit(self.asked, self.unit)}"
        spread = f"({_with_unit(self.measured.low, self.unit)} to {_with_unit(self.measured.high, self.unit)})"
        verdict = "met" if self.is_met else "**not met**"
        return [self.what, f"{_with_unit(self.measured.middle, self.unit)} {spread}", limit, verdict]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Of rounds that followed each other, so that a slow minute of the machine hits both.

    A round in which they answered nothing in time is left out, which is in their favour; infinite if that is all.
    """
    found = [a / b for a, b in zip(ours, theirs, strict=True) if b > 0]
    return Spread.of(found or [math.inf])


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def bars_table(bars: Sequence[Bar]) -> str:
    """Every bar with its verdict."""
    return table(["what", "median (lowest to highest)", "bar", ""], [bar.row() for bar in bars])


def machine() -> str:
    """When and where it was measured."""
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, load average {load:.1f} at the start"
    )


def write_part(path: Path, name: str, text: str) -> None:
    """Put `text` in place of the part `name` of a document, or at its end; what others wrote there stays."""
    begin, end = f"<!-- {name}: written by a command -->", f"<!-- end of {name} -->"
    part = f"{begin}\n{text.strip()}\n{end}\n"
    held = path.read_text(encoding="utf-8") if path.exists() else ""
    before, found, rest = held.partition(begin)
    after = rest.partition(end)[2] if found else ""
    made = before + part + after.removeprefix("\n") if found else f"{held.rstrip()}\n\n{part}".lstrip()
    path.write_text(made, encoding="utf-8")


def _with_unit(value: float, unit: Unit) -> str:
    if unit == "%":
        return f"{value * 100:.{1 if 0 < abs(value) < 0.02 else 0}f} %"
    digits = 0 if abs(value) >= 20 else 1 if abs(value) >= 5 else 2
    return f"{value:,.{digits}f} {unit}".strip()
