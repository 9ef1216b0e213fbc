"""`demo`: the whole story in about a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the files in ./penstock-demo, and the server until Ctrl-C.")
    ] = False,
) -> None:
    """Train, pack with proof, serve, ask, break, look into the audit log: on real data, in about a minute.

    Example: `penstock demo --keep`
    """
    from penstock.demo.story import tell

    tell(Path("penstock-demo") if keep else None)
