"""The usual design: FastAPI, a pydantic row, `joblib.load` and `predict_proba` on a one-row DataFrame."""

import sys
from typing import Any

import joblib
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model


class Answer(BaseModel):
    """What it answers."""

    label: Any
    probabilities: dict[str, float]


def build(path: str) -> FastAPI:
    """The application around the model and the field types in `path`."""
    loaded = joblib.load(path)
    model, types = loaded["model"], loaded["types"]
    by_position = {f"f{i}": (kind | None, None) for i, kind in enumerate(types.values())}
    row_type: Any = create_model("Row", **by_position)  # type: ignore[call-overload]
    names = list(types)
    app = FastAPI()

    @app.post("/predict")
    def predict(row: row_type) -> Answer:
        frame = pd.DataFrame([list(row.model_dump().values())], columns=names)
        probabilities = model.predict_proba(frame)[0]
        keys = [str(label) for label in model.classes_]
        label = model.classes_.tolist()[probabilities.argmax()]
        return Answer(label=label, probabilities=dict(zip(keys, probabilities.tolist(), strict=True)))

    return app


if __name__ == "__main__":
    uvicorn.run(build(sys.argv[2]), port=int(sys.argv[1]), http="httptools", loop="uvloop", access_log=False,
                log_level="error")  # fmt: skip
