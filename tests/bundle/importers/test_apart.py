"""The child process: what a pickle may do to it, and how its end is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import penstock
from penstock.bundle.importers.apart import Limits, carry_out_apart
from penstock.bundle.importers.carry import bring_in, carry_out
from penstock.bundle.importers.order import Order
from penstock.bundle.loaders.skops_file import dump_skops
from penstock.bundle.provenance import Provenance
from penstock.errors import PackRefused, SchemaError

ROWS = pd.DataFrame({"age": range(20, 60), "fee": [index * 0.5 for index in range(40)]})
LEFT = ["yes" if index % 3 else "no" for index in range(40)]
MODEL = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LEFT)


class Runs:
    """A value whose unpickling calls a function: what a hostile pickle is."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def order_of(place: Path, content: Any, **options: Any) -> Order:
    joblib.dump(content, place / "model.joblib")
    ROWS.to_csv(place / "rows.csv", index=False)
    named = {"source": str(place / "model.joblib"), "sample": str(place / "rows.csv"), "out": str(place / "out")}
    return Order(kind="fitted", name="churn", **(named | options))


def refusal(order: Order, **limits: Any) -> PackRefused:
    with pytest.raises(PackRefused) as caught:
        carry_out_apart(order, Limits(**limits), lambda step: None)
    return caught.value


def test_a_pickle_becomes_a_bundle(tmp_path: Path) -> None:
    """It answers as the model does; the bundle holds no pickle, and says where it came from; progress is told."""
    steps: list[str] = []
    bundle = carry_out_apart(order_of(tmp_path, MODEL), Limits(), steps.append)
    answers = penstock.open(bundle.path).predict(ROWS)
    assert MODEL.predict(ROWS).tolist() == [answer.label for answer in answers]
    assert "onnx" == bundle.flavour
    assert {"reading the model", "compiling", "sealing"} <= set(steps)
    provenance = bundle.part("provenance.json", Provenance)
    assert provenance is not None and provenance.origin is not None
    assert ("model.joblib", None) == (provenance.origin.location, provenance.origin.sample)
    assert "1.0" == provenance.params["logisticregression__C"]


def test_without_the_word_nothing_is_unpickled(tmp_path: Path) -> None:
    """This process refuses, and the code in the file has not run."""
    order = order_of(tmp_path, Runs(os.mkdir, str(tmp_path / "ran")))
    with pytest.raises(PackRefused, match=r"model\.joblib: unpickling runs .* Say --allow-unsafe"):
        bring_in(order, lambda step: None, allow_unsafe=False, limits=Limits())
    assert not (tmp_path / "ran").exists()


def test_what_it_sees_and_what_is_told_when_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last output and exit code are in the message; it sees no variable of this process, where credentials are."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    code = "import os; print('last words', [k for k in os.environ if 'AWS' in k], flush=True); os._exit(7)"
    said = str(refusal(order_of(tmp_path, Runs(exec, code))))
    assert "exit code 7" in said and "last words []" in said


def test_it_is_ended_when_it_takes_too_long(tmp_path: Path) -> None:
    """With all that it has started, when its time is up."""
    code = (
        f"import subprocess, sys; p = subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); p.wait()"
    )
    assert "longer than 8 s" in str(refusal(order_of(tmp_path, Runs(exec, code)), time_s=8.0))
    state = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    assert not state.exists() or state.read_text().rpartition(") ")[2][0] in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_its_memory_is_limited(tmp_path: Path) -> None:
    """A pickle that unfolds beyond the limit ends in a message, and not in this machine's memory."""
    said = str(refusal(order_of(tmp_path, Runs(bytes, 12 << 30)), memory_bytes=6 << 30))
    assert "the memory limit was reached" in said
    assert "--memory-gib" in said


def test_errors_come_as_they_are(tmp_path: Path) -> None:
    """What an importer refuses in the child is refused here, with its step, reason and advice."""
    refused = refusal(order_of(tmp_path, {"a": 1}))
    assert ("dict", "it has no predict") == (refused.step, refused.reason)


def test_kinds_of_errors(tmp_path: Path) -> None:
    """A schema that contradicts itself, a file that is not there and an order without a sample keep their kinds."""
    (tmp_path / "schema.yaml").write_text("fields: []")
    for kind, options in (
        (SchemaError, {"schema": str(tmp_path / "schema.yaml")}),
        (FileNotFoundError, {"sample": "/nowhere.csv"}),
        (PackRefused, {"sample": None}),
    ):
        with pytest.raises(kind):
            carry_out(order_of(tmp_path, MODEL, may_unpickle=True, **options), lambda step: None)


def test_skops_needs_no_word(tmp_path: Path) -> None:
    """A skops file is data: it is read here; one that holds other types than known ones is refused."""
    (tmp_path / "model.skops").write_bytes(dump_skops(MODEL))
    order = order_of(tmp_path, MODEL, source=str(tmp_path / "model.skops"))
    assert "onnx" == carry_out(order, lambda step: None).flavour
    (tmp_path / "model.skops").write_bytes(b"PK")
    with pytest.raises(penstock.PenstockError, match=r"not a readable skops file"):
        carry_out(order, lambda step: None)
