"""BentoML: a service with one API; `bentoml serve bento:Tabular`."""

from __future__ import annotations

import os
from typing import Any

import bentoml
import model


@bentoml.service(workers=1, traffic={"timeout": 60})
class Tabular:
    """One model. The original takes milliseconds, so it runs in BentoML's threads; the graph on the loop, which is
    the quicker of the two for it.
    """

    def __init__(self) -> None:
        self.model = model.load()

    if os.environ["DESIGN"] == "graph":

        @bentoml.api
        async def predict(self, rows: list[list[Any]]) -> list[list[float]]:
            return self.model.predict(rows)[1]

    else:

        @bentoml.api
        def predict(self, rows: list[list[Any]]) -> list[list[float]]:
            return self.model.predict(rows)[1]
