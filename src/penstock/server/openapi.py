"""The OpenAPI 3.1 document of the data port: one typed operation per model, and the routes that all models share.

`http/pages.py` asks for it once per table of models; `docs_page.py` renders it. Pure: values in, one document out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from penstock.bundle.outputs import OutputSpec
from penstock.server import openapi_feedback as feedback
from penstock.server import openapi_mlflow as mlflow
from penstock.server import openapi_shared as shared
from penstock.server import openapi_tfserving as tf
from penstock.server import openapi_v2 as v2

Json = dict[str, Any]

_OTHERS: Final[Json] = {**feedback.SCHEMAS, **v2.SCHEMAS, **tf.SCHEMAS, **mlflow.SCHEMAS}
_OTHER_PATHS: Final[Json] = {**feedback.PATHS, **v2.PATHS, **tf.PATHS, **mlflow.PATHS}
_ANY_ROW: Final[Json] = {"type": "object", "description": "A row of the model; its own operation says which fields."}


class ModelDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What the document says of one model.

    `row_schema` is a JSON Schema (2020-12) of one row, an object with `properties`, without references; `example` is
    a row that fits it. Both are of the version that a call without version gets. `optional` are the outputs that an
    answer may lack: where a person is to decide. `description` is shown as plain text.
    """

    name: str
    versions: tuple[int, ...]
    aliases: tuple[str, ...]
    row_schema: Json
    example: Json
    outputs: OutputSpec
    optional: frozenset[str] = frozenset()
    description: str = ""


def openapi_document(models: Sequence[ModelDoc], version: str) -> Json:
    """The document for `models`; `version` is that of Penstock. As long as one model is served, it types the short
    names too.
    """
    schemas: Json = {**shared.SCHEMAS, **_OTHERS, **_schemas_of("any", _ANY_ROW, _prediction(None))}
    paths: Json = {}
    for model in models:
        schemas |= _schemas_of(model.name, model.row_schema, _prediction(model.outputs, model.optional))
        paths[f"/v1/models/{model.name}/predict"] = {"post": _model_operation(model)}
    only = models[0] if len(models) == 1 else None
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": version,
            "description": "Predictions of the models served here. Every answer is recorded before it is given.",
        },
        "servers": [{"url": "/"}],
        "paths": {**paths, **_paths_by_choice(models), **_short_paths(only), **_OTHER_PATHS, **shared.LOOK_PATHS},
        "components": {"schemas": schemas, "parameters": shared.PARAMETERS, "responses": shared.RESPONSES},
    }


def _schemas_of(name: str, row: Json, prediction: Json) -> Json:
    """The schemas of one model. A model's name is lower case, so `churn.Row` is never the schema of another."""
    request = {
        "type": "object",
        "properties": {
            "instances": {"type": "array", "minItems": 1, "items": _ref(f"{name}.Row"), "description": "The rows."},
            "columns": _columns(row),
            "key": {"type": ["string", "null"], "description": "Keeps a caller on one arm of a rollout."},
            "params": {"type": ["object", "null"], "description": "Options of the call."},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["columns"]}],
        "additionalProperties": False,
    }
    answer = _object(
        model={"type": "string"},
        version={"type": "integer"},
        digest={"type": "string", "description": "Names the content of the bundle that answered."},
        request_id={"type": "string", "description": "Ours; it finds the record of this answer."},
        predictions={"type": "array", "items": _ref(f"{name}.Prediction"), "description": "One per row, in order."},
        latency_ms={"type": "number", "minimum": 0},
    )
    answer["properties"] |= shared.MARKS
    parts = {"Row": row, "Request": request, "Prediction": prediction, "Answer": answer}
    return {f"{name}.{part}": schema for part, schema in parts.items()}


def _columns(row: Json) -> Json:
    columns: Json = {
        "type": "object",
        "description": "In place of `instances`: one list of values per field, all of one length.",
        "properties": {
            field: {"type": "array", "minItems": 1, "items": values}
            for field, values in row.get("properties", {}).items()
        },
    }
    for rule in ("required", "additionalProperties"):
        if rule in row:
            columns[rule] = row[rule]
    return columns


def _prediction(outputs: OutputSpec | None, optional: frozenset[str] = frozenset()) -> Json:
    """The schema of one prediction, `optional` members of which may be absent; without `outputs`, of any model's."""
    number: Json = {"type": "number"}
    if outputs is None:
        numbers = {"type": "object", "additionalProperties": number}
        label = {"type": ["boolean", "integer", "string"]}
        return {
            "type": "object",
            "properties": {"label": label, "probabilities": numbers, "value": number, "values": numbers},
        }
    members: Json = {}
    if "label" in outputs.names:
        members["label"] = {"enum": list(outputs.classes)} if outputs.classes else {"type": ["boolean", "integer"]}
    if "probabilities" in outputs.names:
        names = [label if isinstance(label, str) else msgspec.json.encode(label).decode() for label in outputs.classes]
        members["probabilities"] = _object(**{name: {"type": "number", "minimum": 0, "maximum": 1} for name in names})
    if "value" in outputs.names:
        members["value"] = number
    if "values" in outputs.names:
        members["values"] = _object(**dict.fromkeys(outputs.targets, number))
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": members, "required": required}


def _model_operation(model: ModelDoc) -> Json:
    versions = ", ".join(str(number) for number in model.versions) or "none"
    aliases = ", ".join(model.aliases) or "none"
    known = f"Versions: {versions}. Aliases: {aliases}."
    return {
        **_predict_operation(model.name, f"predict_{model.name}", {"instances": [model.example]}),
        "summary": f"Predict with {model.name}",
        "description": f"{model.description}\n\n{known}" if model.description else known,
        "tags": ["Models"],
    }


def _predict_operation(schema: str, operation: str, example: Json | None = None) -> Json:
    content: Json = {"schema": _ref(f"{schema}.Request")}
    if example is not None:
        content["example"] = example
    return {
        "operationId": operation,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in shared.PARAMETERS],
        "requestBody": {"required": True, "content": {"application/json": content, **shared.ARROW}},
        "responses": shared.predict_responses(_ref(f"{schema}.Answer"), has_arrow=True),
    }


def _paths_by_choice(models: Sequence[ModelDoc]) -> Json:
    """Predictions by a chosen version or alias: untyped, as another version may have another schema."""
    model: Json = {"type": "string"}
    if models:
        model["enum"] = [each.name for each in models]
    choices: dict[str, tuple[str, Json]] = {
        "version": ("versions", {"type": "integer", "minimum": 1}),
        "alias": ("aliases", {"type": "string"}),
    }
    paths: Json = {}
    for name, (folder, kind) in choices.items():
        paths[f"/v1/models/{{model}}/{folder}/{{{name}}}/predict"] = {
            "parameters": [shared.path_parameter("model", model), shared.path_parameter(name, kind)],
            "post": {
                # A capital letter, as no model's name has one: the id is never that of a model's own operation.
                **_predict_operation("any", f"predictBy{name.title()}"),
                "summary": f"Predict with the {name} that is named",
                "tags": ["Models"],
            },
        }
    return paths


def _short_paths(only: ModelDoc | None) -> Json:
    """The short names; typed by `only` when there is no other model."""
    name = only.name if only else "any"
    values = {"type": "array", "items": {}, "minItems": 1, "description": "Values in the order of the schema's fields."}
    one, many = [_ref(f"{name}.Row"), values], _rows([_ref(f"{name}.Row"), values])
    paths: Json = {}
    for path, summary, answer in (
        ("/predict", "Predict with the default model", {"anyOf": [shared.short_answer(), shared.short_answers()]}),
        ("/batch_predict", "Predict many rows with the default model", shared.short_answers()),
    ):
        body: Json = {"schema": _short_request({"anyOf": [*one, many]})}
        if only:
            body["example"] = {"features": only.example if path == "/predict" else [only.example]}
        paths[path] = {
            "post": {
                "operationId": path.strip("/"),
                "summary": summary,
                "tags": ["Short names"],
                "parameters": [{"$ref": f"#/components/parameters/{parameter}"} for parameter in shared.PARAMETERS],
                "requestBody": {"required": True, "content": {"application/json": body}},
                "responses": shared.predict_responses(answer),
            }
        }
    return paths


def _rows(kinds: list[Json]) -> Json:
    return {"type": "array", "minItems": 1, "items": {"anyOf": kinds}}


def _short_request(features: Json) -> Json:
    version = {"type": ["integer", "string", "null"], "description": 'A version\'s number; `3`, `"3"` or `"v3"`.'}
    return {
        "type": "object",
        "properties": {
            "features": {**features, "description": "One row, or a list of rows."},
            "model_version": version,
            "key": {"type": ["string", "null"], "description": "Keeps a caller on one arm of a rollout."},
        },
        "required": ["features"],
        "additionalProperties": False,
    }


def _object(**members: Json) -> Json:
    return {"type": "object", "properties": members, "required": list(members)}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
