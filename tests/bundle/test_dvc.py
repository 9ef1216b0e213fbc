"""References to data that DVC keeps."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from sklearn.linear_model import LinearRegression

import penstock
from penstock.bundle.describe import summary
from penstock.bundle.dvc import DvcReference, read_dvc
from penstock.bundle.provenance import Provenance
from penstock.errors import PackRefused

FILE = """\
outs:
- md5: a304afb96060aad90176268345e10355
  size: 37891850
  hash: md5
  path: data.csv
"""


def test_the_file_that_dvc_writes(tmp_path: Path) -> None:
    """MD5, path and size are those of the one thing that the file stands for."""
    path = tmp_path / "data.csv.dvc"
    path.write_text(FILE)
    assert DvcReference("a304afb96060aad90176268345e10355", "data.csv", 37891850) == read_dvc(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("outs: []", "expected one entry in `outs`, got 0"),
        (FILE + FILE.partition("\n")[2], "got 2"),
        ("deps: []", "`outs`"),
        ("outs: [{path: x}]", "md5"),
        ("outs: [{md5: !!python/object:os.system x, path: y}]", "could not determine a constructor"),
        ("{", "expected a .dvc file"),
    ],
)
def test_what_is_no_reference_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """The message names the file and what was expected; nothing of the YAML is constructed but plain values."""
    path = tmp_path / "data.csv.dvc"
    path.write_text(text)
    with pytest.raises(PackRefused, match=f"data.csv.dvc: .*{said}"):
        read_dvc(path)


def test_a_bundle_says_where_it_comes_from(tmp_path: Path) -> None:
    """`pack` keeps the reference and the run; `inspect` shows them; the content digest knows nothing of them."""
    import pandas as pd

    (tmp_path / "data.csv.dvc").write_text(FILE)
    rows = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0]})
    model = LinearRegression().fit(rows, [2.0, 4.0, 6.0, 8.5])
    told, untold = (
        penstock.pack(model, name="line", sample=rows, out=tmp_path / "out", options=options)
        for options in (penstock.PackOptions(dvc=tmp_path / "data.csv.dvc", mlflow_run="run7"), None)
    )
    provenance = told.part("provenance.json", Provenance)
    assert provenance is not None
    assert (DvcReference("a304afb96060aad90176268345e10355", "data.csv", 37891850), "run7") == (
        provenance.dvc,
        provenance.mlflow_run,
    )
    lines = dict(summary(told))
    assert ("run7", "data.csv, md5 a304afb96060aad90176268345e10355") == (lines["MLflow run"], lines["data in DVC"])
    assert told.manifest.content_digest == untold.manifest.content_digest


def test_an_old_bundle_says_nothing_of_it() -> None:
    """A `provenance.json` of before is read as one that names neither."""
    data = b'{"packed_by": "a@b", "model_class": "x", "sample_rows": 1, "sample_digest": "d"}'
    provenance = msgspec.json.decode(data, type=Provenance)
    assert (None, None) == (provenance.mlflow_run, provenance.dvc)
