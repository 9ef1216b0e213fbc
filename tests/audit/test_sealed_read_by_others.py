"""The sealed files as other programs read them, without Penstock: what docs/audit.md says of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from penstock.audit.seal import Sealer
from records import answered, write

READERS = Path(__file__).parents[2] / ".venvs" / "readers" / "bin" / "python"
AGES = [*range(20, 30), *(number + 0.5 for number in range(10, 15))]


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sealed files of a model, a later version of which has another field, and parts of numbers in one."""
    audit = tmp_path_factory.mktemp("home") / "audit"
    write(audit, map(answered, range(10)))
    write(audit, (answered(number, input=[{"age": number + 0.5, "tenure": number}]) for number in range(10, 15)))
    Sealer(audit).seal()
    return audit / "sealed" / "churn"


def test_duckdb(churn: Path) -> None:
    """DuckDB reads all files as one table, with the wider type where they differ."""
    ages = duckdb.sql(
        f"SELECT unnest(feature_age) AS age FROM read_parquet('{churn}/*/*.parquet', union_by_name = true) ORDER BY seq"
    )
    assert sorted(AGES) == sorted(age for (age,) in ages.fetchall())
    figures = duckdb.sql(
        "SELECT count(*), count(feature_tenure), min(prediction_probability_yes[1]) "
        f"FROM read_parquet('{churn}/*/*.parquet', union_by_name = true)"
    )
    assert [15, 5, 0.75] == list(figures.fetchall()[0])


def test_pandas(churn: Path) -> None:
    """pandas reads each file: times are aware, lists have an element for each row."""
    frame = pd.concat([pd.read_parquet(file) for file in sorted(churn.glob("*/*.parquet"))])
    assert (15, "UTC") == (len(frame), str(frame["arrived_at"].dt.tz))
    assert sorted(AGES) == sorted(frame["feature_age"].explode())
    assert {"yes"} == set(frame["prediction_label"].explode())


def test_polars(churn: Path) -> None:
    """polars reads them as the documentation says."""
    if not READERS.exists():
        pytest.skip("polars is not there: make readers")
    program = Path(__file__).parent / "readers" / "read_by_polars.py"
    done = subprocess.run([READERS, "-I", program, churn], capture_output=True, text=True, timeout=300)
    assert 0 == done.returncode, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert (15, sorted(AGES), ["yes"]) == (found["records"], sorted(found["ages"]), found["labels"])
    assert list(range(10, 15)) == sorted(found["tenures"])
