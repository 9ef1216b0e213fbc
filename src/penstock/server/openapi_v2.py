"""The Open Inference Protocol V2 in the API document: the same for all models, whose fields are tensors there."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

_TEXT: Final[Json] = {"type": "string"}
_DIMENSIONS: Final[Json] = {"type": "array", "items": {"type": "integer"}}
_DATATYPE: Final[Json] = {
    "type": "string",
    "enum": [
        *("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
        *("FP16", "FP32", "FP64", "BYTES"),
    ],
}
_PARAMETERS: Final[Json] = {"type": ["object", "null"], "description": "Such as `binary_data_size`."}


def _object(required: tuple[str, ...], **members: Json) -> Json:
    return {"type": "object", "properties": members, "required": list(required)}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: Final[Json] = {
    "V2Error": _object(("error",), error=_TEXT),
    "V2Form": _object(("name", "datatype", "shape"), name=_TEXT, datatype=_DATATYPE, shape=_DIMENSIONS),
    "V2Tensor": _object(
        ("name", "datatype", "shape"),
        name=_TEXT,
        datatype=_DATATYPE,
        shape={"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
        data={"type": "array", "description": "As many values as the shape says, in row-major order, or as rows."},
        parameters=_PARAMETERS,
    ),
    "V2Request": _object(
        ("inputs",),
        id={"type": ["string", "null"], "description": "Echoed, and kept in the record."},
        inputs={
            "type": "array",
            "items": _ref("V2Tensor"),
            "description": "One tensor per field, or one matrix in the schema's order where all fields are numbers.",
        },
        outputs={
            "type": ["array", "null"],
            "items": _object(("name",), name=_TEXT, parameters=_PARAMETERS),
            "description": "The outputs that are wanted; all where it is left out.",
        },
        parameters=_PARAMETERS,
    ),
    "V2Answer": _object(
        ("model_name", "model_version", "outputs"),
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        parameters={"type": "object"},
        outputs={"type": "array", "items": _ref("V2Tensor")},
    ),
    "V2Server": _object(
        ("name", "version", "extensions"), name=_TEXT, version=_TEXT, extensions={"type": "array", "items": _TEXT}
    ),
    "V2Model": _object(
        ("name", "versions", "platform", "inputs", "outputs"),
        name=_TEXT,
        versions={"type": "array", "items": _TEXT},
        platform=_TEXT,
        inputs={"type": "array", "items": _ref("V2Form")},
        outputs={"type": "array", "items": _ref("V2Form")},
    ),
    "V2Index": {
        "type": "array",
        "items": _object(("name",), name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT),
    },
    "V2Live": _object(("live",), live={"type": "boolean"}),
    "V2Ready": _object(("ready",), ready={"type": "boolean"}, name=_TEXT),
}

_HEADERS: Final[list[Json]] = [
    {"$ref": "#/components/parameters/RequestId"},
    {"$ref": "#/components/parameters/DeadlineMs"},
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Where tensors follow the JSON part as bytes: the bytes of the JSON part.",
        "schema": {"type": "integer", "minimum": 0},
    },
]


def _names(path: str) -> list[Json]:
    kinds = {"model": _TEXT, "version": {"type": "integer", "minimum": 1}}
    return [
        {"name": name, "in": "path", "required": True, "schema": kind}
        for name, kind in kinds.items()
        if f"{{{name}}}" in path
    ]


def _failure(description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref("V2Error")}}}


_FAILURES: Final[Json] = {
    "400": _failure("Not readable: JSON, tensors, outputs that there are not."),
    "404": _failure("No such model or version."),
    "413": _failure("Too large."),
    "406": _failure("The header Accept excludes JSON."),
    "415": _failure("A body packed in a way that is not read."),
    "422": _failure("Rows that break the model's schema."),
    "500": _failure("The model failed."),
    "503": _failure("Overloaded, or not ready."),
    "504": _failure("The deadline passed."),
}


def _operation(name: str, summary: str, schema: str, media: tuple[str, ...] = ("application/json",)) -> Json:
    content = {kind: {"schema": _ref(schema)} for kind in media[:1]} | {kind: {} for kind in media[1:]}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["Open Inference Protocol V2"],
        "responses": {"200": {"description": "The answer.", "content": content}, **_FAILURES},
    }


def _infer(name: str) -> Json:
    kinds = ("application/json", "application/octet-stream")
    body = {kinds[0]: {"schema": _ref("V2Request")}, kinds[1]: {}}
    return {
        **_operation(name, "Predict with tensors", "V2Answer", kinds),
        "parameters": _HEADERS,
        "requestBody": {"required": True, "content": body},
    }


def _paths() -> Json:
    named, numbered = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
    paths: Json = {
        "/v2": {"get": _operation("v2Server", "What serves", "V2Server")},
        "/v2/health/live": {"get": _operation("v2Live", "Whether the server runs", "V2Live")},
        "/v2/health/ready": {"get": _operation("v2Ready", "Whether the models answer", "V2Ready")},
        "/v2/repository/index": {"post": _operation("v2Index", "All versions that are served", "V2Index")},
        named: {"get": _operation("v2Model", "A model as tensors", "V2Model")},
        numbered: {"get": _operation("v2ModelVersion", "A version of a model as tensors", "V2Model")},
        f"{named}/ready": {"get": _operation("v2ModelReady", "Whether a model answers", "V2Ready")},
        f"{numbered}/ready": {"get": _operation("v2VersionReady", "Whether a version answers", "V2Ready")},
        f"{named}/infer": {"post": _infer("v2Infer")},
        f"{numbered}/infer": {"post": _infer("v2InferVersion")},
    }
    return {path: {**item, "parameters": _names(path)} if _names(path) else item for path, item in paths.items()}


PATHS: Final[Json] = _paths()
