"""Versions of a model of `bank_full.csv`, each with its own fault, for rollouts that are to find it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
import pytest
from erring import Erring

from variants import variant

DATA: Final = Path(__file__).parents[2] / "../shared/data/bank_full.csv"
NAME: Final = "bank"
TRUSTED: Final = "erring.Erring"
_ROWS: Final = 6_000
_TREES: Final = 12
TEXTS: Final = ("poutcome", "job", "marital", "education", "default", "housing", "loan", "contact", "month")


class Bank(msgspec.Struct, frozen=True):
    """The champion's bundle, a maker of others by what is wrong with them, and rows with what came true of them."""

    champion: Path
    out: Path
    table: Any

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows as they are asked."""
        found: list[dict[str, Any]] = self.table.drop(columns="y").to_dict("records")
        return found

    @property
    def actuals(self) -> list[str]:
        """What came true of each."""
        return list(self.table["y"])

    def version(self, kind: str) -> Path:
        """The bundle of a version that is: "identical", "better", "erring", "slow", "shifted" or "worse"."""
        if kind == "identical":
            return variant(self.champion, self.out / kind, without=1)
        frame, target = self.table.drop(columns="y")[:_ROWS], self.table["y"][:_ROWS].copy()
        sample, model = frame, pipeline(_TREES)
        if kind == "better":
            return packed(model.fit(frame, target), frame, self.out / kind)
        frame, target = frame[: _ROWS // 4], target[: _ROWS // 4]
        if kind == "erring":
            return packed(Erring(model, _days(self.table)).fit(frame, target), frame, self.out / kind)
        if kind == "slow":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return packed(network().fit(frame, target), frame, self.out / kind)
        if kind == "shifted":  # its duration is in minutes, what it is asked in seconds
            sample = frame.assign(duration=(frame["duration"] / 60).round().astype(int))
            return packed(model.fit(sample, target), frame, self.out / kind)
        if kind == "worse":
            turned = np.random.default_rng(5).random(len(target)) < 0.48
            target[turned] = np.where(target[turned] == "yes", "no", "yes")
            return packed(model.fit(frame, target), frame, self.out / kind)
        raise ValueError(f"no version is {kind!r}")


def bank_in(out: Path) -> Bank:
    """The champion, packed below `out`; skips the test where the data are not there."""
    if not DATA.exists():
        pytest.skip(f"needs {DATA}")
    table = pd.read_csv(DATA).sample(frac=1.0, random_state=7).reset_index(drop=True)
    frame, target = table.drop(columns="y")[: _ROWS // 4], table["y"][: _ROWS // 4]
    return Bank(packed(pipeline(_TREES).fit(frame, target), frame, out / "champion"), out, table)


def pipeline(trees: int) -> Any:
    """A forest behind one-hot encoding."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), list(TEXTS)), remainder="passthrough")
    return make_pipeline(encode, RandomForestClassifier(trees, max_depth=7, random_state=1))


def network() -> Any:
    """A network of 500 by 500, which takes about five times as long as the champion for a row."""
    from sklearn.compose import make_column_transformer
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = (OneHotEncoder(handle_unknown="ignore"), list(TEXTS))
    encode = make_column_transformer(texts, remainder=StandardScaler())
    return make_pipeline(encode, MLPClassifier((500, 500), max_iter=2, random_state=0))


def packed(model: Any, sample: Any, out: Path) -> Path:
    """The bundle of a fitted model."""
    import penstock

    options = penstock.PackOptions(threshold_budget=10, golden_rows=8, trusted=(TRUSTED,))
    out.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return penstock.pack(model, name=NAME, sample=sample, out=out, options=options).path


def _days(table: Any) -> tuple[int, ...]:
    """Days of the month that together have about 5 % of the rows."""
    shares = table["day"].value_counts(normalize=True).sort_values()
    return tuple(int(day) for day in shares.index[: int((shares.cumsum() < 0.055).sum())])
