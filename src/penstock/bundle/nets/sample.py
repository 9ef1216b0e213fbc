"""A net's sample: its rows as a frame, and which columns make which input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from penstock.bundle.loaders.net import NetDtype, NetInput
from penstock.errors import PackRefused


def frame_and_inputs(sample: Any, dtype: NetDtype) -> tuple[pd.DataFrame, tuple[NetInput, ...]]:
    """The rows, and the inputs that they make.

    A DataFrame or an array is one input `x` of all its columns, in their order, as `dtype`. A dict of named inputs
    (frames, or arrays `[n, k]` or `[n]`) is one input each; whole numbers stay whole numbers. Raises PackRefused for
    texts, which no net reads, and for what has no rows and columns.
    """
    if not isinstance(sample, Mapping):
        frame = _frame(sample, "x")
        return frame, (NetInput("x", tuple(frame.columns), dtype),)
    frames = {str(name): _frame(part, str(name)) for name, part in sample.items()}
    inputs = tuple(_input(name, frame, np.ndim(sample[name]) == 1, dtype) for name, frame in frames.items())
    joined = pd.concat(list(frames.values()), axis=1)
    if len({len(frame) for frame in frames.values()}) != 1:
        counts = {name: len(frame) for name, frame in frames.items()}
        raise PackRefused("sample", f"the inputs have {counts} rows", "Give the same rows for each input")
    return joined.loc[:, ~joined.columns.duplicated()], inputs


def joined_frame(rows: Any) -> Any:
    """Rows that are given as a dict of inputs, as one frame; others as they are."""
    return frame_and_inputs(rows, "float64")[0] if isinstance(rows, Mapping) else rows


def _input(name: str, frame: pd.DataFrame, is_flat: bool, dtype: NetDtype) -> NetInput:
    whole = all(kind.kind in "iu" for kind in frame.dtypes)
    return NetInput(name, tuple(frame.columns), "int64" if whole else dtype, is_flat)


def _frame(part: Any, name: str) -> pd.DataFrame:
    if isinstance(part, pd.DataFrame):
        frame = part.reset_index(drop=True)
    else:
        values = np.asarray(part)
        values = values.reshape(-1, 1) if values.ndim == 1 else values
        if values.ndim != 2:
            raise PackRefused("sample", f"{name} has {values.ndim} dimensions; a row is flat", "Give [n, k] arrays")
        named = [name] if np.ndim(part) == 1 else [f"{name}{place}" for place in range(values.shape[1])]
        frame = pd.DataFrame(values, columns=named)
    return frame
