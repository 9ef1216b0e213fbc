"""The model that a peer serves, in the peer's own environment: `DESIGN` is `original` or `graph`, `MODEL` its file."""

from __future__ import annotations

import os
from typing import Any


def load() -> Any:
    """`predict(rows)` gives labels and probabilities; see benchmarks/servers."""
    if os.environ["DESIGN"] == "graph":
        from graph import Graph

        return Graph(os.environ["MODEL"])
    from original import Original

    return Original(os.environ["MODEL"])
