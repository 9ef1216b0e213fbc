"""The commands as a user types them, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock.bundle.loaders.sklearn import dump_skops


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TERM": "dumb", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "penstock", *words]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a pickled and a skops model, and its training rows with the target."""
    place = tmp_path_factory.mktemp("trained")
    rows = pd.DataFrame({"age": range(20, 60), "fee": [index * 0.5 for index in range(40)]})
    left = ["yes" if index % 3 else "no" for index in range(40)]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, left)
    joblib.dump(model, place / "model.joblib")
    (place / "model.skops").write_bytes(dump_skops(model))
    rows.assign(left=left).to_csv(place / "train.csv", index=False)
    rows.assign(left=left).to_parquet(place / "test.parquet")
    return place


@pytest.fixture(scope="module")
def packed(trained: Path) -> Path:
    """The bundle that `pack` made of the skops model."""
    done = run(
        "pack", str(trained / "model.skops"), "--name", "churn", "--sample", str(trained / "train.csv"),
        "--holdout", str(trained / "test.parquet"), "--target", "left", "--out", str(trained / "bundles"), "--json",
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    described = json.loads(done.stdout)
    assert ("onnx", "churn") == (described["manifest"]["flavour"], described["manifest"]["name"])
    assert 40 == described["evaluation"]["rows"]
    return Path(described["path"])


@pytest.mark.parametrize(
    "command", ["demo", "pack", "import", "inspect", "verify", "serve", "predict", "feedback", "doctor"]
)
def test_every_command_shows_an_example(command: str) -> None:
    """`--help` says what the command does, and ends in something to type."""
    done = run(command, "--help")
    assert 0 == done.returncode
    assert f"penstock {command}" in " ".join(done.stdout.split())


def test_pack_for_people_ends_with_what_to_type_next(trained: Path) -> None:
    """Tables on standard output, and the next command."""
    done = run(
        "pack", str(trained / "model.joblib"), "--allow-unsafe", "--name", "other", "--sample",
        str(trained / "train.csv"), "--target", "left", "--out", str(trained / "bundles"), "--archive",
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    assert "split thresholds" not in done.stdout
    assert "Next: penstock serve --bundle" in done.stdout
    assert (trained / "bundles" / "other-1.penstock").is_file()


def test_a_pickle_is_not_opened_without_the_word(trained: Path) -> None:
    """Unpickling runs code, so the command wants to be told."""
    done = run("pack", str(trained / "model.joblib"), "--name", "x", "--sample", str(trained / "train.csv"))
    assert 1 == done.returncode
    assert "Say --allow-unsafe for a file that you made yourself" in done.stderr
    assert "Traceback" not in done.stderr


def test_inspect_shows_the_schema_and_a_curl_line(packed: Path) -> None:
    """What a bundle is, without running it."""
    done = run("inspect", str(packed))
    assert 0 == done.returncode, done.stderr
    for words in ("exact", "age", "roc_auc", "measured on the holdout", "curl -s http://127.0.0.1:8080"):
        assert words in done.stdout


def test_verify_says_no_with_exit_code_1(packed: Path, tmp_path: Path) -> None:
    """A bundle that is as sealed exits 0; one that was touched exits 1 and is named."""
    assert 0 == run("verify", str(packed)).returncode
    answer = json.loads(run("verify", str(packed), "--json").stdout)
    assert (True, "churn") == (answer["ok"], answer["name"])
    touched = tmp_path / "touched"
    touched.mkdir()
    for file in packed.iterdir():
        (touched / file.name).write_bytes(file.read_bytes())
    (touched / "schema.yaml").write_text("fields: []")
    done = run("verify", str(touched))
    assert 1 == done.returncode
    assert "schema.yaml" in done.stderr


def predicted(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert 0 == done.returncode, done.stderr
    predictions: list[dict[str, Any]] = json.loads(done.stdout)["predictions"]
    return predictions


def test_predict_reads_every_format_alike(trained: Path, packed: Path, tmp_path: Path) -> None:
    """JSON, JSON lines, CSV, Parquet and standard input give the same predictions."""
    rows = [{"age": 31, "fee": 4.5}, {"age": 50, "fee": 0.0}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    answers = [
        predicted(run("predict", str(packed), str(tmp_path / f"rows.{kind}"), "--bundle", "--json"))
        for kind in ("json", "jsonl", "csv", "parquet")
    ]
    answers.append(predicted(run("predict", str(packed), "-", "--bundle", "--json", stdin=json.dumps(rows))))
    assert [answers[0]] * 5 == answers
    assert 2 == len(answers[0])


def test_predict_names_every_violation(packed: Path) -> None:
    """A row that breaks the schema exits 1, with every place."""
    done = run("predict", str(packed), "-", "--bundle", stdin='[{"age": "31", "shoe": 42}]')
    assert 1 == done.returncode
    for words in ("`$[0].age`", "`$[0].fee`", "`$[0].shoe`"):
        assert words in done.stderr


def test_predict_without_a_server_says_so(tmp_path: Path) -> None:
    """No connection is an answer for a person, not a traceback."""
    done = run("predict", "churn", "-", "--url", "http://127.0.0.1:9", stdin="[{}]")
    assert 1 == done.returncode
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["pack", "missing.skops", "--name", "x", "--sample", "missing.csv"],
        ["predict", "churn", "missing.json"],
        ["serve", "--workers", "many"],
        ["predict"],
        ["nonsense"],
    ],
)
def test_wrong_use_exits_2(words: list[str]) -> None:
    """A missing file or argument is wrong use."""
    done = run(*words)
    assert 2 == done.returncode
    assert "Traceback" not in done.stderr
