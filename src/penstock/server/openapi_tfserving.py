"""TensorFlow Serving's REST API in the API document: the same for all models."""

from __future__ import annotations

from typing import Any, Final

from penstock.server.openapi_shared import path_parameter

Json = dict[str, Any]

_TEXT: Final[Json] = {"type": "string"}
_TENSOR: Final[Json] = {"type": "array", "description": "A value, or a list of probabilities or values, for each row."}
_PLACES: Final = {"": "", "Version": "/versions/{version}", "Label": "/labels/{alias}"}

SCHEMAS: Final[Json] = {
    "TfError": {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]},
    "TfRequest": {
        "type": "object",
        "properties": {
            "instances": {
                "type": "array",
                "minItems": 1,
                "description": "Rows: objects by field, lists in the schema's order, or values of the only field.",
            },
            "inputs": {
                "type": ["object", "array"],
                "description": 'Columns: an object of lists, or rows as lists. Bytes are `{"b64": text}`.',
            },
            "signature_name": {"enum": ["serving_default", "", None]},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        "additionalProperties": False,
    },
    "TfAnswer": {
        "type": "object",
        "properties": {"predictions": _TENSOR, "outputs": _TENSOR},
        "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
    },
    "TfStatus": {
        "type": "object",
        "properties": {"model_version_status": {"type": "array", "items": {"type": "object"}}},
        "required": ["model_version_status"],
    },
    "TfMetadata": {
        "type": "object",
        "properties": {"model_spec": {"type": "object"}, "metadata": {"type": "object"}},
        "required": ["model_spec", "metadata"],
    },
}

_KINDS: Final[Json] = {"model": _TEXT, "version": {"type": "integer", "minimum": 1}, "alias": _TEXT}
_FAILURES: Final = {
    "400": "Not readable, rows that break the model's schema, or a method other than predict.",
    "404": "No such model, version or label.",
    "413": "Too large.",
    "406": "The header Accept excludes JSON.",
    "415": "A body packed in a way that is not read.",
    "500": "The model failed.",
    "503": "Overloaded, or not ready.",
    "504": "The deadline passed.",
}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _operation(name: str, summary: str, schema: str, failures: tuple[str, ...]) -> Json:
    answer = {"description": "The answer.", "content": {"application/json": {"schema": _ref(schema)}}}
    refusal = {"application/json": {"schema": _ref("TfError")}}
    refusals = {status: {"description": _FAILURES[status], "content": refusal} for status in failures}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["TensorFlow Serving"],
        "responses": {"200": answer, **refusals},
    }


def _post(name: str, verb: str) -> Json:
    summary = "Predict with rows or columns" if verb == "predict" else f"Refused: {verb} is for models of tf.Example"
    return {
        **_operation(name, summary, "TfAnswer", tuple(_FAILURES)),
        "parameters": [{"$ref": f"#/components/parameters/{header}"} for header in ("RequestId", "DeadlineMs")],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("TfRequest")}}},
    }


def _paths() -> Json:
    paths: Json = {}
    for kind, place in _PLACES.items():
        path = f"/v1/models/{{model}}{place}"
        for verb in ("predict", "classify", "regress"):
            paths[f"{path}:{verb}"] = {"post": _post(f"tf{verb.title()}{kind}", verb)}
        paths[f"{path}/metadata"] = {"get": _operation(f"tfMetadata{kind}", "A signature", "TfMetadata", ("404",))}
        if place:  # of a model by itself it is one body with our own
            paths[path] = {"get": _operation(f"tfStatus{kind}", "The state of a version", "TfStatus", ("404",))}
    return {path: {**item, "parameters": _names(path)} for path, item in paths.items()}


def _names(path: str) -> list[Json]:
    return [path_parameter(name, kind) for name, kind in _KINDS.items() if f"{{{name}}}" in path]


PATHS: Final[Json] = _paths()
