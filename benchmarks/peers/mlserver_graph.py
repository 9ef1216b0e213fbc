"""MLServer: a runtime of our own for the graph, as MLServer has none for ONNX."""

from __future__ import annotations

from typing import Any

import model
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class GraphModel(MLModel):
    """One input per field, in order; one output, `predict_proba`."""

    async def load(self) -> bool:
        self._graph = model.load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        columns: list[Any] = [list(one.data) for one in payload.inputs]
        rows = [list(row) for row in zip(*columns, strict=True)]
        found = NumpyCodec.encode_output("predict_proba", np.array(self._graph.predict(rows)[1]))
        return InferenceResponse(model_name=self.name, outputs=[found])
