"""A fitted scikit-learn model from a file, for packing: skops by itself, pickles only when the caller says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penstock.errors import PackRefused

_PICKLES = (".joblib", ".pkl", ".pickle")


def read_fitted(path: Path, *, allow_unsafe: bool = False) -> Any:
    """The fitted model in `path`.

    A `.skops` file may hold the types that skops knows to be safe. A pickle runs whatever code is in it, in this
    process, so it is read only with `allow_unsafe`: for files that you made yourself. Raises PackRefused, OSError.
    """
    if path.suffix == ".skops":
        return _read_skops(path)
    if path.suffix not in _PICKLES:
        raise PackRefused(str(path), f"expected .skops or {', '.join(_PICKLES)}", "Call penstock.pack from Python")
    if not allow_unsafe:
        raise PackRefused(
            str(path),
            "unpickling runs whatever code is in the file",
            "Say --allow-unsafe for a file that you made yourself, or save the model with skops.io.dump",
        )
    import joblib

    return joblib.load(path)


def _read_skops(path: Path) -> Any:
    from skops.io import get_untrusted_types, load

    unknown = get_untrusted_types(file=path)
    if unknown:
        raise PackRefused(str(path), f"holds types that are not known to be safe: {', '.join(unknown[:5])}",
                          "Call penstock.pack from Python, where the model is in memory already")  # fmt: skip
    return load(path)
