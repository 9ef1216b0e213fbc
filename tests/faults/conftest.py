"""Models for tests of faults: one gives back what it got, one answers NaN on some rows, one misbehaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from moody import FACTORS, Moody, graph, ramp, scaled


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of packed models of one float `x`.

    - `echo`: its value is `x`; compiled.
    - `log`: its value is the natural logarithm, so NaN for x < 0; compiled.
    - `moody`: its value is `x`, but for the moods of `moody.py`; native, and trusted as `moody.Moody`.
    """
    import penstock

    out = tmp_path_factory.mktemp("faulty")
    options = penstock.PackOptions(golden_rows=8, trusted=("moody.Moody",))
    models = {"echo": graph("Identity"), "log": graph("Log"), "moody": Moody().fit(ramp(), None)}
    return {
        name: penstock.pack(model, name=name, sample=ramp(), out=out, options=options).path
        for name, model in models.items()
    }


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Paths of packed versions of two models of one float `x`, which they multiply as `FACTORS` says.

    - `line`: compiled. `moody`: native, and trusted as `moody.Moody`.
    """
    import penstock

    out = tmp_path_factory.mktemp("versions")
    options = penstock.PackOptions(golden_rows=8, trusted=("moody.Moody",))
    found: dict[str, list[Path]] = {"line": [], "moody": []}
    models = [("line", scaled(factor)) for factor in FACTORS]
    models += [("moody", Moody(factor=factor).fit(ramp(), None)) for factor in FACTORS[:2]]
    for name, model in models:
        found[name].append(penstock.pack(model, name=name, sample=ramp(), out=out, options=options).path)
    return found
