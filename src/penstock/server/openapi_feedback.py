"""The part of the OpenAPI document that is about feedback."""

from __future__ import annotations

from typing import Any, Final

from penstock.server.feedback import MOST_STATEMENTS

Json = dict[str, Any]

_STATEMENT: Final[Json] = {
    "type": "object",
    "description": "What came true of one row: of a call by its `request_id`, or of the last call for `key` before it.",
    "properties": {
        "request_id": {"type": "string", "format": "uuid", "description": "Of the answer."},
        "key": {"type": "string", "maxLength": 128, "description": "In its place: the key that the call had."},
        "model": {"type": "string", "description": "With a `key`: the model that was asked."},
        "index": {"type": "integer", "minimum": 0, "default": 0, "description": "Which row of the call."},
        "actual": {
            "description": "The label, the value, or the values by target.",
            "anyOf": [
                {"type": ["boolean", "number"]},
                {"type": "string", "minLength": 1, "maxLength": 128},
                {"type": "object", "minProperties": 1, "additionalProperties": {"type": "number"}},
            ],
        },
        "at": {"type": "string", "format": "date-time", "description": "Since when it is known; now, if not said."},
    },
    "required": ["actual"],
    "additionalProperties": False,
}
_TAKEN: Final[Json] = {
    "type": "object",
    "properties": {
        "request_id": {"type": "string", "description": "Of this call."},
        "taken": {"type": "integer", "description": "How many statements were recorded."},
        "unlisted": {
            "type": "integer",
            "description": "Of how many the actual is a label, or has a target, that no served model knows: not kept.",
        },
    },
    "required": ["request_id", "taken", "unlisted"],
}

SCHEMAS: Final[Json] = {"feedback.Statement": _STATEMENT, "feedback.Taken": _TAKEN}

_REF: Final[Json] = {"$ref": "#/components/schemas/feedback.Statement"}
_MANY: Final[Json] = {"type": "array", "minItems": 1, "maxItems": MOST_STATEMENTS, "items": _REF}
_ERRORS: Final = {
    "400": "Unreadable",
    "406": "NotAcceptable",
    "413": "TooLarge",
    "415": "UnsupportedMedia",
    "422": "SchemaViolation",
    "500": "ModelFailed",
    "503": "Unavailable",
}

PATHS: Final[Json] = {
    "/v1/feedback": {
        "post": {
            "operationId": "feedback",
            "summary": "Say what came true of predictions",
            "description": "All statements of a call are taken, or none. Those that come later count; all are kept.",
            "tags": ["Models"],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [_REF, _MANY]}}}},
            "responses": {
                "200": {
                    "description": "They are recorded.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/feedback.Taken"}}},
                },
                **{status: {"$ref": f"#/components/responses/{name}"} for status, name in _ERRORS.items()},
            },
        }
    }
}
