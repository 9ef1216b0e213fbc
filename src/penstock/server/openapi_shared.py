"""The parts of the OpenAPI document that are the same whatever is served: errors, headers, health, models, metrics."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

_TEXT: Final[Json] = {"type": "string"}
_WHOLE: Final[Json] = {"type": "integer"}
_BREAKER: Final[Json] = {"type": "string", "enum": ["closed", "open", "half-open"]}

SCHEMAS: Final[Json] = {
    "Violation": {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "JSON path into the body, as `$.instances[3].age`."},
            "expected": _TEXT,
            "got": _TEXT,
        },
        "required": ["path", "expected", "got"],
    },
    "Error": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "code": {"type": "string", "description": "Stable; for programs."},
                    "message": {"type": "string", "description": "What was expected, what came, where."},
                    "request_id": {"type": "string", "description": "Ours; it leads to the record and the log."},
                    "violations": {
                        "type": "array",
                        "maxItems": 100,
                        "items": {"$ref": "#/components/schemas/Violation"},
                        "description": "With 422: every place where the rows break the schema.",
                    },
                },
                "required": ["code", "message"],
            }
        },
        "required": ["error"],
    },
    "Model": {
        "type": "object",
        "properties": {
            "name": _TEXT,
            "ready": {"type": "boolean"},
            "model_version_status": {"type": "array", "items": {"type": "object"}},
            "versions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "version": _WHOLE,
                        "digest": _TEXT,
                        "flavour": _TEXT,
                        "cost_us": {"type": "number"},
                        "cost_64_us": {"type": "number"},
                        "memory_bytes": _WHOLE,
                        "loaded": {"type": "boolean", "description": "False: its first call loads it."},
                        "breaker": _BREAKER,
                    },
                    "required": ["version", "digest"],
                },
            },
            "aliases": {"type": "object", "additionalProperties": _WHOLE},
            "options": {"type": "object", "description": "How it is served: lazy, decision, fallback, limits, key."},
            "experiment": {"type": "object", "description": "Its id and the weights in force here, of 10,000 buckets."},
            "failures": {
                "type": "object",
                "additionalProperties": _TEXT,
                "description": "By its number, why a version that is wanted could not be loaded.",
            },
            "schema": {"type": "object", "description": "JSON Schema of a row; where one model is asked for."},
        },
        "required": ["name", "ready", "versions", "aliases"],
    },
}

PARAMETERS: Final[Json] = {
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "The caller's own id: up to 128 printable ASCII characters are echoed and recorded.",
        "schema": {"type": "string"},
    },
    "DeadlineMs": {
        "name": "X-Deadline-Ms",
        "in": "header",
        "description": "Milliseconds after which the caller wants no answer.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    },
    "Key": {
        "name": "X-Penstock-Key",
        "in": "header",
        "description": "The caller's key, which keeps it on one arm of an experiment; comes before one in the body.",
        "schema": {"type": "string"},
    },
}

_ERRORS: Final = {
    "400": ("Unreadable", "The body is not what this route reads."),
    "404": ("NotFound", "No such route, model, version or alias; the message names what there is."),
    "406": ("NotAcceptable", "The header Accept excludes every type of answer that this route has."),
    "413": ("TooLarge", "The body or the number of rows is above a limit."),
    "415": ("UnsupportedMedia", "A content type or a packing (Content-Encoding) that this route does not read."),
    "422": ("SchemaViolation", "The rows break the model's schema; all places are named."),
    "500": ("ModelFailed", "The model failed on these rows, or the server did; never the fault of the input's form."),
    "503": ("Unavailable", "Not ready, overloaded, or the model is left alone for a while. Retry-After says when."),
    "504": ("DeadlineExceeded", "The deadline passed before the answer was there."),
}


def _error_response(status: str, description: str) -> Json:
    response: Json = {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status == "503":
        response["headers"] = {"Retry-After": {"description": "In seconds.", "schema": _WHOLE}}
    return response


RESPONSES: Final[Json] = {name: _error_response(status, text) for status, (name, text) in _ERRORS.items()}


def predict_responses(answer: Json, *, has_arrow: bool = False) -> Json:
    """The responses of a prediction whose body on success is `answer`, or as `has_arrow` tells a stream of Arrow."""
    errors = {status: {"$ref": f"#/components/responses/{name}"} for status, (name, _) in _ERRORS.items()}
    headers = {
        "X-Penstock-Request-Id": {"description": "The body's `request_id`.", "schema": _TEXT},
        "X-Penstock-Model": {"description": "What answered.", "schema": _TEXT},
        "X-Penstock-Version": {"description": "Its version.", "schema": _WHOLE},
        "X-Penstock-Experiment": {"description": "The experiment of the model, where there is one.", "schema": _TEXT},
        "X-Penstock-Arm": {"description": "The arm of the experiment that the call is on.", "schema": _TEXT},
        "X-Penstock-Fallback": {"description": "The kind of fallback, where one answered.", "schema": FALLBACK},
        "X-Penstock-Cache": {"description": "Where the response cache answered.", "schema": {"enum": ["hit"]}},
    }
    content = {"application/json": {"schema": answer}, **(ARROW if has_arrow else {})}
    success = {"description": "The answer.", "headers": headers, "content": content}
    return {"200": success, **errors}


ARROW: Final[Json] = {
    "application/vnd.apache.arrow.stream": {
        "schema": {"type": "string", "format": "binary", "description": "An Arrow IPC stream, a column per field."}
    }
}
"""The other form of rows and answers of our own API."""

FALLBACK: Final[Json] = {"type": "string", "enum": ["constant", "version", "abstain"]}
MARKS: Final[Json] = {
    "fallback": {**FALLBACK, "description": "Only where a declared fallback answered in place of the model."},
    "cached": {"type": "boolean", "description": "Only where the response cache answered."},
    "experiment": {"type": "string", "description": "The experiment of the model, where there is one."},
    "arm": {"type": "string", "description": "The arm of the experiment that the call is on."},
}
"""Members of an answer for which the model did not run, or of an experiment."""


def path_parameter(name: str, schema: Json) -> Json:
    """The parameter `{name}` of a path."""
    return {"name": name, "in": "path", "required": True, "schema": schema}


def short_answer() -> Json:
    """The answer of the short names for one row."""
    value = {"type": ["boolean", "integer", "number", "string", "object"], "description": "The label or the value."}
    probabilities = {"type": "object", "additionalProperties": {"type": "number"}}
    return _with_run({"prediction": value, "probabilities": probabilities}, "prediction")


def short_answers() -> Json:
    """The answer of the short names for several rows."""
    each = {"type": "object", "properties": {"prediction": {}, "probabilities": {"type": "object"}}}
    return _with_run({"predictions": {"type": "array", "items": each}}, "predictions")


def _with_run(members: Json, required: str) -> Json:
    run = {
        "model_version": _WHOLE,
        "request_id": _TEXT,
        "latency_ms": {"type": "number", "minimum": 0},
        "timestamp": {"type": "string", "format": "date-time"},
    }
    return {"type": "object", "properties": {**members, **run, **MARKS}, "required": [required, *run]}


def _look(operation: str, summary: str, schema: Json | None, *, kind: str = "application/json") -> Json:
    content = {kind: {"schema": schema or {"type": "object"}}}
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "tags": ["Server"],
            "responses": {"200": {"description": summary + ".", "content": content}},
        }
    }


def _model_path() -> Json:
    look = _look(
        "model", "One model: versions, aliases, the schema of its rows", {"$ref": "#/components/schemas/Model"}
    )
    look["get"]["responses"]["404"] = {"$ref": "#/components/responses/NotFound"}
    return {"parameters": [path_parameter("model", _TEXT)], **look}


def _ready_path() -> Json:
    look = _look("health_ready", "Whether the served table is loaded", None)
    look["get"]["responses"]["503"] = {"description": "It is not."}
    return look


_MODELS: Final[Json] = {
    "type": "object",
    "properties": {"models": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}},
    "required": ["models"],
}
_HEALTH: Final[Json] = {
    "type": "object",
    "properties": {
        "status": _TEXT,
        "model_loaded": {"type": "boolean"},
        "timestamp": {"type": "string", "format": "date-time"},
    },
    "required": ["status", "model_loaded", "timestamp"],
}
_MODEL_VERSION: Final[Json] = {
    "type": "object",
    "properties": {"model": _TEXT, "model_version": _WHOLE, "digest": _TEXT},
    "required": ["model", "model_version", "digest"],
}

LOOK_PATHS: Final[Json] = {
    "/v1/models": _look("models", "All models", _MODELS),
    "/v1/models/{model}": _model_path(),
    "/v1/info": _look("info", "What runs here: build, durability of the records, unsafe settings", None),
    "/model/version": _look("model_version", "The version of the default model", _MODEL_VERSION),
    "/health": _look("health", "Whether predictions are answered", _HEALTH),
    "/health/live": _look("health_live", "Whether the process runs", None),
    "/health/ready": _ready_path(),
    "/metrics": _look("metrics", "Metrics for Prometheus", _TEXT, kind="text/plain"),
    "/openapi.json": _look("openapi", "This document", None),
    "/docs": _look("docs", "This document as a page", _TEXT, kind="text/html"),
}
