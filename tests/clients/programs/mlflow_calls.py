"""Asks a server with MLflow's own scoring-server client, in every form of rows, and prints the answers as JSON.

Runs in an environment of its own, with MLflow and without Penstock: `mlflow_calls.py host port rows.csv`. The server's
default model takes the columns of rows.csv.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import requests  # noqa: E402
from mlflow.deployments import PredictionsResponse  # noqa: E402
from mlflow.models import convert_input_example_to_serving_input  # noqa: E402
from mlflow.pyfunc.scoring_server.client import ScoringServerClient  # noqa: E402

PROBA = {"predict_method": "predict_proba"}


def answers(host: str, port: int, frame: pd.DataFrame) -> dict[str, Any]:
    """By the form of the request: what the client gives back."""
    client = ScoringServerClient(host, port)
    client.wait_server_ready(timeout=60)
    records = json.loads(frame.to_json(orient="records"))
    columns = {name: [row[name] for row in records] for name in frame.columns}
    asked = {
        "frame": frame,
        "frame of an object array": pd.DataFrame(frame.to_numpy(dtype=object), columns=frame.columns),
        "frame in another order": frame[list(frame.columns)[::-1]],
        "array": frame.to_numpy(dtype=object),
        "list": records,
        "dataframe_split": json.dumps({"dataframe_split": json.loads(frame.to_json(orient="split"))}),
        "dataframe_records": json.dumps({"dataframe_records": records}),
        "instances": json.dumps({"instances": records}),
        "inputs": json.dumps({"inputs": columns}),
        "input example": convert_input_example_to_serving_input(frame),
    }
    found: dict[str, Any] = {name: client.invoke(rows)["predictions"] for name, rows in asked.items()}
    found["probabilities"] = client.invoke(frame, params=PROBA).get_predictions("ndarray", dtype="float64").tolist()
    found["as a frame"] = client.invoke(frame).get_predictions()[0].tolist()
    found["csv"] = in_csv(f"http://{host}:{port}/invocations", frame)
    found["refused"] = refused(client, frame.drop(columns=frame.columns[0]))
    found["version"] = client.get_version()
    return found


def in_csv(url: str, frame: pd.DataFrame) -> list[Any]:
    """As MLflow's documentation sends CSV."""
    answer = requests.post(url, data=frame.to_csv(index=False), headers={"Content-Type": "text/csv"}, timeout=30)
    return np.asarray(PredictionsResponse.from_json(answer.text).get_predictions("ndarray")).tolist()


def refused(client: ScoringServerClient, frame: pd.DataFrame) -> str:
    """What the client raises for rows that the server refuses."""
    try:
        client.invoke(frame)
    except Exception as error:  # it raises no other
        return str(error)
    return ""


if __name__ == "__main__":
    print(json.dumps(answers(sys.argv[1], int(sys.argv[2]), pd.read_csv(sys.argv[3]))))  # noqa: T201
