"""What turns checked columns into outputs: every loader gives one; the server, batch and stream run it."""

from __future__ import annotations

from typing import Protocol

from penstock.bundle.outputs import Outputs
from penstock.schema import Columns


class Predictor(Protocol):
    """A loaded model. `run` is thread-safe and deterministic; it never changes its argument.

    Columns in: one 1-D array of n rows per field of the schema, in the layout that `penstock.schema.Columns` states.
    Outputs out: as `Outputs` states, n rows each. Raises `ModelFailed` when the model raises or misses an output.
    """

    def run(self, columns: Columns) -> Outputs:
        """Outputs of the rows in `columns`."""
        ...
