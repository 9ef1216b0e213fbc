"""The protocols: each a file with two pure functions around `Predict`, and no logic of its own."""

from penstock.server.protocols.arrow import arrow_faces
from penstock.server.protocols.mlflow import Mlflow, MlflowCsv
from penstock.server.protocols.own import Own
from penstock.server.protocols.short import Short
from penstock.server.protocols.tfserving import TfServing
from penstock.server.protocols.v2 import V2

__all__ = ["V2", "Mlflow", "MlflowCsv", "Own", "Short", "TfServing", "arrow_faces"]
