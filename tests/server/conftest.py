"""Models for tests of bounds and fallbacks: slow where a test says so, broken where a test says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from gated import Gated


@pytest.fixture(scope="session")
def gated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of packed models of one float `x`, native, trusted as `gated.Gated`; their class must be on the path.

    - `gated`: answers `x`. `gated-2`: the same model's second version, which answers 2 `x`.
    """
    import numpy as np
    import pandas as pd

    import penstock

    sample = pd.DataFrame({"x": np.linspace(1.0, 60.0, 60)})
    options = penstock.PackOptions(golden_rows=8, trusted=("gated.Gated",))
    found: dict[str, Path] = {}
    for key, factor in (("gated", 1.0), ("gated-2", 2.0)):
        model = Gated(factor).fit(sample, None)
        out = tmp_path_factory.mktemp("gated")
        found[key] = penstock.pack(model, name="gated", sample=sample, out=out, options=options).path
    return found
