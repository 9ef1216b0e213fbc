"""What the proof found, and the flavour that follows from it: plain values, readable without the packing libraries.

Made by `bundle/compile` and `bundle/flavour.py`, sealed as `proof.json`, shown by `inspect` and the demo.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Difference(msgspec.Struct, frozen=True):
    """One row on which the two differ: in which output, by how much, and both answers."""

    origin: str
    output: str
    difference: float
    expected: float | int | None
    got: float | int | None
    row: dict[str, float | str | None]


class Thresholds(msgspec.Struct, frozen=True):
    """How the proof's rows meet the distinct split thresholds of the original's trees.

    - `met`: some row went left and some row went right.
    - `straddled`: two rows that differ in one raw value, by one step of that field's numbers, went different ways.
    - `unreachable`: tried, and no row that the schema lets through goes one of the ways.
    - `out_of_budget`: neither met nor tried.
    """

    total: int = 0
    met: int = 0
    straddled: int = 0
    unreachable: int = 0
    out_of_budget: int = 0


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the comparison of the original with the candidate found.

    - `rows`: rows compared, by origin (sample, threshold, missing, category, unknown, extreme).
    - `sample_rows`: the rows of the whole sample; at most 20,000 of them, evenly spaced, are compared.
    - `refused`: rows that the original itself refuses (it raised, or answered a non-finite number), by origin.
    - `tolerance`: on probabilities absolute; on values relative to the larger of the value and `value_scale`.
    - `largest`: the largest difference, in units of the tolerance's meaning, with its row; None when all are equal.
    - `flips`: rows whose label differs; `first_flip` is the first of them.
    - `wrong`: rows with a difference above the tolerance, or a flip; `failure` is what the candidate raised, if it did.
    """

    rows: dict[str, int]
    sample_rows: int
    refused: dict[str, int]
    thresholds: Thresholds
    tolerance: float
    value_scale: float
    largest_difference: float
    largest: Difference | None = None
    flips: int = 0
    first_flip: Difference | None = None
    wrong: int = 0
    failure: str | None = None
    is_exact: bool = False

    @property
    def offence(self) -> Difference | None:
        """The row that decided against the candidate: the first flip, else the largest difference."""
        return None if self.is_exact else self.first_flip or self.largest


class Blame(msgspec.Struct, frozen=True):
    """The step that decided against the graph, how it shows, and what to do about it."""

    step: str
    reason: str
    advice: str


class Speed(msgspec.Struct, frozen=True):
    """The median time of one run of so many rows, at packing, on that machine; it only describes, and digests of
    content do not cover it.
    """

    rows: int
    original_us: float
    graph_us: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`proof.json`: how the flavour was decided.

    - `recipe`: how each step was written into the graph.
    - `native_because`: the step, the reason and a line of advice where the model stays native.
    - `proof`: the comparison with the original; None where there was no graph to compare.
    - `speed`: original and graph side by side, where the proof passed.
    """

    flavour: Literal["onnx", "native"]
    recipe: tuple[str, ...] = ()
    native_because: Blame | None = None
    proof: Proof | None = None
    speed: tuple[Speed, ...] = ()
