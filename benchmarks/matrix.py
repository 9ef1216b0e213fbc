"""The matrix of docs/exactness.md: every estimator of the corpus behind every preprocessing, with the reasons.

Run by `make exactness` after the table on real data. Each pipeline is compiled, proven, and compared once more on rows
that have nothing to do with the proof; whatever is native names the step that decided.
"""

from __future__ import annotations

import sys
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/bundle/compile"))

from corpus import (  # noqa: E402
    CLASSIFIERS,
    COUNTED,
    DETECTORS,
    MANY,
    NUMERIC,
    REGRESSORS,
    TEXTUAL,
    Make,
    differences,
    independent_rows,
    pipeline_of,
    target_of,
)
from customer_table import compiled, customers, open_schema  # noqa: E402

from penstock.bundle.compile import NotCompilable, blame  # noqa: E402
from penstock.bundle.frame import columns_of  # noqa: E402

PAGE = ROOT / "docs/exactness.md"
_ROWS = 250
_BUDGET = 40
_PLAIN = "OneHotEncoder"
_COUNTS = ("MinMaxScaler", "KBins", "Binarizer")

COLUMNS = [(numeric, numeric, _PLAIN) for numeric in NUMERIC]
COLUMNS += [(textual, "StandardScaler", textual) for textual in TEXTUAL if textual != _PLAIN]
"""Each column of the matrix: its name, the preprocessing of the numbers and that of the texts."""


class Cell(msgspec.Struct, frozen=True):
    """One pipeline: `mark` in the matrix, and the step and reason where it is native."""

    mark: str
    step: str = ""
    reason: str = ""


def estimators() -> dict[str, Make]:
    """All estimators of the corpus, by the names of the matrix."""
    return {**CLASSIFIERS, **{f"{name} (values)": make for name, make in REGRESSORS.items()}, **MANY, **DETECTORS}


def cell(name: str, make: Make, numeric: str, textual: str) -> Cell:
    """Fit, compile, prove, compare on independent rows."""
    random = np.random.default_rng(zlib.crc32(f"{name}, {numeric}, {textual}".encode()))
    frame = customers(_ROWS, seed=int(random.integers(1, 1000)))
    is_numeric = numeric in ("RFE", "SelectFromModel") or "Select" in numeric
    target = target_of(name.removesuffix(" (values)") if name in MANY else name, frame, random, is_numeric=is_numeric)
    model = pipeline_of(NUMERIC[numeric](random), TEXTUAL[textual](random), make(random))
    try:
        model.fit(frame, target)
    except (TypeError, ValueError) as error:
        return Cell("-", "fit", str(error).strip().partition("\n")[0])
    fresh = independent_rows(customers(150, seed=2000), frame, random)
    schema = open_schema(frame)
    try:
        case = compiled(model, frame, schema)
    except NotCompilable as refusal:
        return Cell("n", refusal.step, refusal.reason)
    proven = case.proven(_BUDGET)
    if not proven.proof.is_exact:
        why = blame(case.original, proven, schema)
        return Cell("n", why.step, why.reason)
    largest, flips = differences(case, columns_of(fresh, schema))
    return Cell("=" if largest <= 1e-6 and not flips else "WRONG", "", f"{largest:.1e}")


def row_of(name: str) -> tuple[str, list[Cell]]:
    """One estimator behind everything; counts only behind what is never negative."""
    warnings.simplefilter("ignore")
    makes = {**estimators(), **COUNTED}
    cells = [Cell("-") if name in COUNTED and head not in _COUNTS else cell(name, makes[name], numeric, textual)
             for head, numeric, textual in COLUMNS]  # fmt: skip
    return name, cells


def measured() -> tuple[list[tuple[str, list[Cell]]], list[str]]:
    """The rows of the matrix, and its columns."""
    rows = []
    with ProcessPoolExecutor(2) as pool:
        for name, cells in pool.map(row_of, [*estimators(), *COUNTED]):
            rows.append((name, cells))
            print(f"{name:32} {' '.join(one.mark for one in cells)}", flush=True)
    return rows, [head for head, _, _ in COLUMNS]


def page_of(rows: list[tuple[str, list[Cell]]], heads: list[str]) -> str:
    """The matrix, its legend and its reasons as Markdown."""
    numbers = " | ".join(str(place + 1) for place in range(len(heads)))
    lines = [f"| behind | {numbers} |", f"| --- |{' :-: |' * len(heads)}"]
    reasons: dict[str, str] = {}
    exact = native = 0
    for name, cells in rows:
        marks = []
        for head, one in zip(heads, cells, strict=True):
            exact, native = exact + (one.mark == "="), native + (one.mark == "n")
            if one.mark == "n":
                step = one.step.rpartition(" > ")[2]
                culprit = f"{name}, behind {head}" if step == "model" else head
                reasons.setdefault(culprit, f"`{one.step}`: {one.reason}")
            marks.append({"=": "=", "n": "n", "-": " "}.get(one.mark, one.mark))
        lines.append(f"| {name} | {' | '.join(marks)} |")
    legend = ", ".join(f"{place + 1} {head}" for place, head in enumerate(heads))
    told = [f"- {culprit}: {reason}" for culprit, reason in reasons.items()]
    summary = f"{exact:,} pipelines are compiled and exact on independent rows, {native:,} stay native."
    return "\n".join([summary, "", f"Columns: {legend}.", "", *lines, "", "Why native:", "", *told, ""])


def main() -> None:
    """Measure the matrix and write it into the page."""
    warnings.simplefilter("ignore")
    rows, heads = measured()
    wrong: list[Any] = [(name, head) for name, cells in rows for head, one in zip(heads, cells, strict=True)
                        if one.mark == "WRONG"]  # fmt: skip
    if wrong:
        sys.exit(f"Silently wrong: {wrong}")
    before, mark, rest = PAGE.read_text(encoding="utf-8").partition("<!-- matrix -->\n")
    after = rest.partition("<!-- end of matrix -->")
    PAGE.write_text(before + mark + page_of(rows, heads) + after[1] + after[2], encoding="utf-8")


if __name__ == "__main__":
    main()
