"""MLflow's scoring protocol in the API document: the same for all models."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

_TEXT: Final[Json] = {"type": "string"}
_ROWS: Final[Json] = {"type": "array", "minItems": 1}
_FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")

SCHEMAS: Final[Json] = {
    "MlflowError": {
        "type": "object",
        "properties": {"error_code": _TEXT, "message": _TEXT},
        "required": ["error_code", "message"],
    },
    "MlflowRequest": {
        "type": "object",
        "properties": {
            "dataframe_split": {
                "type": "object",
                "properties": {
                    "columns": {"type": ["array", "null"], "items": {"type": ["string", "integer"]}},
                    "index": {"description": "Not looked at."},
                    "data": {**_ROWS, "items": {"type": "array"}},
                },
                "required": ["data"],
                "additionalProperties": False,
            },
            "dataframe_records": {**_ROWS, "items": {"type": "object"}},
            "instances": {**_ROWS, "description": "Objects, lists, or values of the only field."},
            "inputs": {"type": ["object", "array"], "description": "An object of columns, or rows."},
            "params": {
                "type": ["object", "null"],
                "properties": {"predict_method": {"enum": ["predict", "predict_proba"]}},
                "additionalProperties": False,
            },
        },
        "oneOf": [{"required": [form]} for form in _FORMS],
    },
    "MlflowAnswer": {
        "type": "object",
        "properties": {"predictions": {"type": "array", "description": "Labels, values or lists of them, by row."}},
        "required": ["predictions"],
    },
}

_FAILURES: Final = {
    "400": "Not readable, or rows that break the model's schema.",
    "404": "No such model.",
    "413": "Too large.",
    "406": "The header Accept excludes JSON.",
    "415": "Neither JSON nor CSV.",
    "500": "The model failed.",
    "503": "Overloaded, or not ready.",
    "504": "The deadline passed.",
}


def _json(name: str) -> Json:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _look(name: str, summary: str, content: Json) -> Json:
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["MLflow"],
        "responses": {"200": {"description": summary + ".", "content": content}},
    }


def _ping() -> Json:
    found = _look("ping", "Whether models answer", {"application/json": {"schema": {"type": "object"}}})
    found["responses"]["503"] = {"description": "Nothing is served yet.", "content": _json("MlflowError")}
    return found


def _invocations() -> Json:
    refusals = {status: {"description": text, "content": _json("MlflowError")} for status, text in _FAILURES.items()}
    model = {
        "name": "X-Penstock-Model",
        "in": "header",
        "description": "The model, where it is not the default one.",
        "schema": {"type": "string", "maxLength": 64},
    }
    return {
        "operationId": "invocations",
        "summary": "Predict with a frame, tensors or CSV",
        "tags": ["MLflow"],
        "parameters": [*({"$ref": f"#/components/parameters/{name}"} for name in ("RequestId", "DeadlineMs")), model],
        "requestBody": {"required": True, "content": {**_json("MlflowRequest"), "text/csv": {"schema": _TEXT}}},
        "responses": {"200": {"description": "The answer.", "content": _json("MlflowAnswer")}, **refusals},
    }


PATHS: Final[Json] = {
    "/invocations": {"post": _invocations()},
    "/ping": {"get": _ping()},
    "/version": {"get": _look("version", "The version of Penstock", {"text/plain": {"schema": _TEXT}})},
}
