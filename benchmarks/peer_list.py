"""The peers of `make bench-peers`: what to install, how each is started, its request and its answer.

A peer is one function from a `Case` to a `Target`; to add one, add its requirement and its function to `PEERS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import joblib
import msgspec

from targets import HERE, JSON, Target
from workloads import Workload

Design = Literal["original", "graph"]
DESIGNS: Mapping[Design, str] = {"original": "predict_proba", "graph": "the same graph"}
PEER_FILES = HERE / "peers"

# The same libraries as Penstock's own, wherever the peer allows it.
COMMON = ("scikit-learn==1.9.*", "numpy==2.4.*", "pandas==2.3.*", "joblib>=1.4", "onnxruntime==1.31.*")


class Case(msgspec.Struct, frozen=True):
    """One peer to start: `bin` is its environment's folder of programs, `folder` is its own to write into."""

    workload: Workload
    design: Design
    row: dict[str, Any]
    bin: Path
    folder: Path
    port: int

    @property
    def model(self) -> Path:
        """The file that model.py opens."""
        return self.workload.graph if self.design == "graph" else self.workload.pickled

    @property
    def environment(self) -> dict[str, str]:
        """What the peer's processes need to find the model, and no reports home."""
        return {
            "DESIGN": self.design,
            "MODEL": str(self.model),
            "PYTHONPATH": f"{PEER_FILES}:{HERE / 'servers'}",
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(self.folder / "bentoml"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONWARNINGS": "ignore",
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
        }

    def target(self, command: list[str], path: str, body: Any, read: Callable[[Any], Any]) -> Target:
        """The server of this case."""
        return Target(DESIGNS[self.design], command, self.port, path, json.dumps(body).encode(), read, JSON)


class Peer(msgspec.Struct, frozen=True):
    """A server of others. `prepare` is a command to run once before it starts, if any."""

    name: str
    package: str
    requirements: tuple[str, ...]
    target: Callable[[Case], Target]
    prepare: Callable[[Case], list[str]] | None = None
    within_s: float = 120.0


def of_bentoml(case: Case) -> Target:
    command = [str(case.bin / "bentoml"), "serve", "bento:Tabular", "--port", str(case.port), "--host", "127.0.0.1",
               "--working-dir", str(PEER_FILES)]  # fmt: skip
    return case.target(command, "/predict", {"rows": [list(case.row.values())]}, lambda reply: reply)


def of_litserve(case: Case) -> Target:
    command = [str(case.bin / "python"), str(PEER_FILES / "lit.py"), str(case.port)]
    return case.target(command, "/predict", {"row": list(case.row.values())}, _probabilities)


def of_mosec(case: Case) -> Target:
    command = [str(case.bin / "python"), str(PEER_FILES / "mosec_server.py"), "--port", str(case.port),
               "--address", "127.0.0.1", "--timeout", "60000", "--log-level", "warning",
               "--path", str(case.folder / "sockets")]  # fmt: skip
    return case.target(command, "/inference", {"row": list(case.row.values())}, _probabilities)


def of_ray(case: Case) -> Target:
    command = [str(case.bin / "python"), str(PEER_FILES / "ray_server.py"), str(case.port)]
    return case.target(command, "/predict", {"row": list(case.row.values())}, _probabilities)


def of_mlflow(case: Case) -> Target:
    command = [str(case.bin / "mlflow"), "models", "serve", "-m", str(case.folder / "model"), "--env-manager", "local",
               "-h", "127.0.0.1", "-p", str(case.port)]  # fmt: skip
    names, values = list(case.row), list(case.row.values())
    if case.design == "original":
        body: dict[str, Any] = {"dataframe_split": {"columns": names, "data": [values]}}
        return case.target(command, "/invocations", body, lambda reply: reply["predictions"])
    at = json.loads(case.workload.graph.read_text(encoding="utf-8"))["inputs"]
    body = {"inputs": {name: [[values[i] for i in places]] for name, places in at.items()}}
    return case.target(command, "/invocations", body, lambda reply: reply["predictions"]["probabilities"])


def _mlflow_folder(case: Case) -> list[str]:
    return [str(case.bin / "python"), str(PEER_FILES / "mlflow_save.py"), str(case.folder / "model")]


def of_mlserver(case: Case) -> Target:
    """`mlserver start FOLDER`: the settings and the model's settings are files in it."""
    runtime = "mlserver_sklearn.SKLearnModel" if case.design == "original" else "mlserver_graph.GraphModel"
    joblib.dump(case.workload.model, case.folder / "model.joblib")
    settings = {"host": "127.0.0.1", "http_port": case.port, "grpc_port": case.port + 1, "metrics_port": case.port + 2,
                "debug": False, "parallel_workers": 0}  # fmt: skip
    model = {"name": "tabular", "implementation": runtime, "parameters": {"uri": str(case.folder / "model.joblib")}}
    (case.folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (case.folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    body = {
        "parameters": {"content_type": "pd"},
        "inputs": [_tensor(name, value) for name, value in case.row.items()],
        "outputs": [{"name": "predict_proba"}],
    }
    command = [str(case.bin / "mlserver"), "start", str(case.folder)]
    return case.target(command, "/v2/models/tabular/infer", body, lambda reply: [reply["outputs"][0]["data"]])


def _tensor(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"name": name, "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "str"},
                "data": [value]}  # fmt: skip
    return {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [float(value)]}


def _probabilities(reply: Any) -> list[list[float]]:
    return [reply["probabilities"]]


PEERS = (
    Peer("MLServer", "mlserver", ("mlserver>=1.7,<2", "mlserver-sklearn>=1.7,<2"), of_mlserver),
    Peer("BentoML", "bentoml", ("bentoml>=1.4,<2",), of_bentoml),
    Peer("LitServe", "litserve", ("litserve>=0.2.19,<0.3",), of_litserve),
    Peer("mosec", "mosec", ("mosec>=0.9.8,<0.10",), of_mosec),
    Peer("MLflow", "mlflow", ("mlflow>=3.8,<4", "onnx==1.23.*"), of_mlflow, prepare=_mlflow_folder),
    Peer("Ray Serve", "ray", ("ray[serve]>=2.50,<3",), of_ray),
)
