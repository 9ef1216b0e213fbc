"""FastAPI around a model: a pydantic row, one row at `/predict` and a list of them at `/predict_batch`.

`usual.py PORT original FILE` is the usual design: joblib, a DataFrame, `predict_proba`, in FastAPI's threads, as
FastAPI runs a plain `def`. `usual.py PORT graph FILE` is what a good engineer writes: the compiled graph in ONNX
Runtime, one session with one thread, in an `async def`, because a thread would cost more than the run.
"""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model

_TYPES = {"str": str, "float": float, "int": int, "bool": bool}


class Answer(BaseModel):
    """What it answers for one row."""

    label: int | str
    probabilities: dict[str, float]


def row_type(types: list[str]) -> Any:
    """A pydantic model with the fields f0, f1, …, each of which may be null."""
    fields = {f"f{i}": (_TYPES[kind] | None, None) for i, kind in enumerate(types)}
    return create_model("Row", **fields)  # type: ignore[call-overload]


def answers(model: Any, rows: list[Any]) -> list[Answer]:
    """The answers to rows of that type."""
    labels, probabilities = model.predict([list(row.__dict__.values()) for row in rows])
    keys = [str(label) for label in model.classes]
    return [
        Answer(label=label, probabilities=dict(zip(keys, values, strict=True)))
        for label, values in zip(labels, probabilities, strict=True)
    ]


def usual_design(path: str) -> FastAPI:
    """The application around the pickle."""
    from original import Original

    model = Original(path)
    row_model: Any = row_type(model.types)
    app = FastAPI()

    @app.post("/predict")
    def predict(row: row_model) -> Answer:
        return answers(model, [row])[0]

    @app.post("/predict_batch")
    def predict_batch(rows: list[row_model]) -> list[Answer]:
        return answers(model, rows)

    return app


def with_graph(path: str) -> FastAPI:
    """The application around the graph."""
    from graph import Graph

    model = Graph(path)
    row_model: Any = row_type(model.types)
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: row_model) -> Answer:
        return answers(model, [row])[0]

    @app.post("/predict_batch")
    async def predict_batch(rows: list[row_model]) -> list[Answer]:
        return answers(model, rows)

    return app


if __name__ == "__main__":
    build = {"original": usual_design, "graph": with_graph}[sys.argv[2]]
    uvicorn.run(build(sys.argv[3]), port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False,
                log_level="error")  # fmt: skip
