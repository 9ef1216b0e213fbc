"""MLflow, both ways: models of every flavour from a running server, and bundles recorded in a run of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import penstock
from penstock.bundle.bundle import Bundle
from penstock.bundle.importers.carry import carry_out
from penstock.bundle.importers.mlflow_client import log_bundle
from penstock.bundle.importers.order import Order
from penstock.bundle.importers.origin import found
from penstock.bundle.provenance import Provenance
from penstock.errors import PackRefused, PenstockError

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")
pytest.importorskip(
    "sqlalchemy", reason="MLflow's server is not installed (mlflow-skinny has none): pip install mlflow"
)

pytestmark = pytest.mark.filterwarnings("ignore")

RANDOM = np.random.default_rng(2)
ROWS = pd.DataFrame(
    {
        "age": RANDOM.integers(18, 90, 300),
        "fee": RANDOM.normal(40, 12, 300).round(2),
        "plan": RANDOM.choice(["basic", "plus", "gold"], 300),
    }
)
NUMBERS = ROWS[["age", "fee"]].astype(float)
LEFT = ((ROWS["age"] / 40 + ROWS["fee"] / 50 + (ROWS["plan"] == "plus")) > 2.3).astype(int).to_numpy()
FEE = (NUMBERS["fee"] * 2 + NUMBERS["age"]).to_numpy()
START_S = 90.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real `mlflow server` on loopback, with SQLite."""
    place = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stores = ["--backend-store-uri", f"sqlite:///{place}/state.db", "--artifacts-destination", str(place / "artifacts")]
    line = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "PYTHONWARNINGS": "ignore"}
    with (place / "output.txt").open("wb") as out:
        process = subprocess.Popen(
            [*line, *stores],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet},
            start_new_session=True,
            cwd=place,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await_health(url, process, place / "output.txt")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in quiet.items():
                patch.setenv(name, value)
            mlflow.set_tracking_uri(url)
            yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def await_health(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", trust_env=False, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"mlflow server did not start: {output.read_text()[-2000:]}")


def fitted_pipeline() -> Any:
    columns = make_column_transformer(
        (StandardScaler(), ["age", "fee"]), (OneHotEncoder(handle_unknown="ignore"), ["plan"])
    )
    return make_pipeline(columns, RandomForestClassifier(6, max_depth=4, random_state=0)).fit(ROWS, LEFT)


def log_sklearn() -> tuple[Any, pd.DataFrame]:
    model = fitted_pipeline()
    trusted = ["sklearn.tree._tree.Tree", "numpy.dtype"]
    options = {"serialization_format": "skops", "skops_trusted_types": trusted}
    logged(mlflow.sklearn, model, ROWS, "scikit-learn", **options)
    return model.predict_proba(ROWS), ROWS


def log_xgboost() -> tuple[Any, pd.DataFrame]:
    xgboost = pytest.importorskip("xgboost", reason="XGBoost is not installed")
    model = xgboost.XGBClassifier(n_estimators=6, max_depth=3, n_jobs=1).fit(NUMBERS, LEFT)
    logged(mlflow.xgboost, model, NUMBERS, "xgboost")
    return model.predict_proba(NUMBERS), NUMBERS


def log_lightgbm() -> tuple[Any, pd.DataFrame]:
    lightgbm = pytest.importorskip("lightgbm", reason="LightGBM is not installed")
    model = lightgbm.LGBMClassifier(n_estimators=6, n_jobs=1, verbose=-1).fit(NUMBERS, LEFT)
    logged(mlflow.lightgbm, model, NUMBERS, "lightgbm", serialization_format="cloudpickle")
    return model.predict_proba(NUMBERS), NUMBERS


def log_catboost() -> tuple[Any, pd.DataFrame]:
    catboost = pytest.importorskip("catboost", reason="CatBoost is not installed")
    model = catboost.CatBoostClassifier(iterations=6, depth=3, verbose=False, allow_writing_files=False)
    model.fit(NUMBERS, LEFT)
    logged(mlflow.catboost, model, NUMBERS, "catboost")
    return model.predict_proba(NUMBERS), NUMBERS


def log_onnx() -> tuple[Any, pd.DataFrame]:
    from skl2onnx import to_onnx

    single = NUMBERS.astype(np.float32)
    model = RandomForestClassifier(5, random_state=0).fit(single.to_numpy(), LEFT)
    graph = to_onnx(model, single.to_numpy()[:1], options={"zipmap": False}, target_opset={"": 21, "ai.onnx.ml": 3})
    logged(mlflow.onnx, graph, single.to_numpy(), "onnx")
    return model.predict_proba(single.to_numpy()), single.set_axis(["x0", "x1"], axis=1)


def log_pytorch() -> tuple[Any, pd.DataFrame]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).eval()
    single = NUMBERS.to_numpy(dtype=np.float32) / 100
    logged(mlflow.pytorch, net, single, "torch", serialization_format="pickle")
    return net(torch.from_numpy(single)).detach().numpy(), pd.DataFrame(single, columns=["x0", "x1"])


def logged(flavour: Any, model: Any, rows: Any, library: str, **options: Any) -> None:
    """The model in a run and in the registry, with a signature, an input example and the alias champion."""
    from mlflow.models import infer_signature

    name = flavour.__name__.rpartition(".")[2]
    info = flavour.log_model(
        model, name="model", registered_model_name=name, signature=infer_signature(rows), input_example=rows[:60],
        pip_requirements=[library], **options,
    )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias(name, "champion", info.registered_model_version)
    mlflow.end_run()


@pytest.mark.parametrize(
    "log", [log_sklearn, log_xgboost, log_lightgbm, log_catboost, log_onnx, log_pytorch],
    ids=lambda log: log.__name__.removeprefix("log_"),
)  # fmt: skip
def test_a_model_of_each_flavour_comes_back_with_the_same_answers(log: Any, server: str, tmp_path: Path) -> None:
    """Logged, registered, given an alias, imported by it, compiled: labels equal, numbers to 1e-6."""
    expected, rows = log()
    name = log.__name__.removeprefix("log_")
    uri = f"models:/{name}@champion"
    with found(uri, server, lambda step: None) as place:
        order = Order(
            kind=place.kind, source=str(place.path), location=place.location, name=name, out=str(tmp_path),
            may_unpickle=True,
        )  # fmt: skip
        bundle = carry_out(order, lambda step: None)
    assert "onnx" == bundle.flavour
    provenance = bundle.part("provenance.json", Provenance)
    assert provenance is not None and provenance.origin is not None
    assert (uri, name) == (provenance.origin.location, provenance.origin.facts["flavour"])
    assert "the model's input example, 60 rows" in (provenance.origin.sample or "")
    answers = penstock.open(bundle.path).predict(rows)
    if answers[0].probabilities is None:
        np.testing.assert_allclose([answer.value for answer in answers], np.ravel(expected), rtol=1e-6, atol=1e-7)
        return
    np.testing.assert_allclose([list((a.probabilities or {}).values()) for a in answers], expected, rtol=0, atol=1e-6)
    assert np.argmax(expected, axis=1).tolist() == [answer.label for answer in answers]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "penstock", *words], capture_output=True, text=True, timeout=300
    )


def test_pack_records_a_run_and_import_takes_it_back(server: str, tmp_path: Path) -> None:
    """Parameters, metrics, tags and the bundle are in the run; the bundle from there opens; a run's model imports."""
    joblib.dump(fitted_pipeline(), tmp_path / "model.joblib")
    ROWS.assign(left=LEFT).to_csv(tmp_path / "rows.csv", index=False)
    table = str(tmp_path / "rows.csv")
    done = run(
        "pack", str(tmp_path / "model.joblib"), "--allow-unsafe", "--name", "churn", "--sample", table, "--holdout",
        table, "--target", "left", "--out", str(tmp_path), "--log-to", "mlflow", "--tracking-uri", server,
        "--experiment", "churn",
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    client = mlflow.MlflowClient(server)
    [recorded] = client.search_runs([client.get_experiment_by_name("churn").experiment_id])
    assert recorded.info.run_id in done.stdout
    params, metrics, tags = recorded.data.params, recorded.data.metrics, recorded.data.tags
    assert ("6", "300") == (params["randomforestclassifier__n_estimators"], params["sample_rows"])
    assert {"accuracy", "roc_auc", "proof.flips"} <= set(metrics)
    (tmp_path / "back").mkdir()
    back = Path(client.download_artifacts(recorded.info.run_id, "bundle", str(tmp_path / "back")))
    bundle = Bundle.open(back)
    assert tags["penstock.digest"] == bundle.manifest.content_digest
    assert penstock.open(back).predict(ROWS[:3]) == penstock.open(tmp_path / "churn-1").predict(ROWS[:3])


def test_what_the_server_does_not_have(server: str, tmp_path: Path) -> None:
    """An alias, a model or a server that is not there is named, with the mend."""
    with (
        pytest.raises(PackRefused, match=r"models:/nobody@x: MLflow did not give it"),
        found("models:/nobody@x", server, lambda step: None),
    ):
        pass


def test_a_server_that_is_not_there(bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle stays where it is, and the message says where."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(PenstockError, match="MLflow did not take the run"):
        log_bundle(Bundle.open(bundles["iris"]), tracking_uri="http://127.0.0.1:9")
