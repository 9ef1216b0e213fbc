"""The OpenAPI document: valid, typed per model, and one with the route table."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource

from penstock.bundle.outputs import OutputSpec
from penstock.server.http.routes import ROUTES
from penstock.server.openapi import ModelDoc, openapi_document

ROW = {
    "type": "object",
    "properties": {
        "age": {"type": ["number", "null"], "minimum": 0, "maximum": 130},
        "plan": {"type": "string", "enum": ["basic", "plus"]},
    },
    "required": ["age", "plan"],
    "additionalProperties": False,
}
EXAMPLE = {"age": 41.0, "plan": "plus"}
YES_NO = OutputSpec(kind="classification", classes=("no", "yes"), has_probabilities=True)


def model(name: str = "churn", outputs: OutputSpec = YES_NO, **members: Any) -> ModelDoc:
    given: dict[str, Any] = {"versions": (1, 2), "aliases": ("champion",), "row_schema": ROW, "example": EXAMPLE}
    return ModelDoc(name=name, outputs=outputs, **(given | members))


def fits(document: dict[str, Any], schema: str, value: object) -> bool:
    """Whether `value` is valid by the component `schema` of the document."""
    registry: Registry[Any] = Registry().with_resource("urn:d", Resource.opaque(document))
    reference = {"$ref": f"urn:d#/components/schemas/{schema}"}
    whole = {**reference, "$schema": "https://json-schema.org/draft/2020-12/schema"}
    return bool(OAS31Validator(whole, registry=registry).is_valid(value))


names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
output_specs = st.sampled_from(
    [
        YES_NO,
        OutputSpec(kind="classification", classes=(0, 1)),
        OutputSpec(kind="classification", classes=(False, True), has_probabilities=True),
        OutputSpec(kind="regression"),
        OutputSpec(kind="regression", targets=("a", "b")),
        OutputSpec(kind="anomaly"),
        OutputSpec(kind="anomaly", classes=(-1, 1)),
    ]
)


@settings(max_examples=4, deadline=None)
@given(st.dictionaries(names, st.tuples(output_specs, st.text(max_size=20)), max_size=3))
def test_the_document_is_openapi(served: dict[str, tuple[OutputSpec, str]]) -> None:
    """Whatever is served, the document is valid OpenAPI 3.1 and survives JSON."""
    models = [model(name, outputs, description=text) for name, (outputs, text) in served.items()]
    document = json.loads(json.dumps(openapi_document(models, "0.1")))
    assert [] == [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]
    assert all(f"/v1/models/{name}/predict" in document["paths"] for name in served)


def test_each_route_is_documented() -> None:
    """The document has the routes of the data port, each by its method, and no others."""
    document = openapi_document([model()], "0.1")
    documented = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "post")
    }
    assert {(route.method, route.path.replace("{model}/predict", "churn/predict")) for route in ROUTES} == documented


def test_operation_ids_are_unique() -> None:
    """Generators of clients name functions by operationId, so none occurs twice."""
    document = openapi_document([model("a"), model("b"), model("by_version")], "0.1")
    ids = [
        item[method]["operationId"] for item in document["paths"].values() for method in item if method != "parameters"
    ]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"instances": [EXAMPLE]}, True),
        ({"columns": {"age": [1.0, None], "plan": ["basic", "plus"]}}, True),
        ({"instances": [EXAMPLE], "key": "c-17", "params": {}}, True),
        ({"instances": []}, False),
        ({"instances": [{"age": 131.0, "plan": "plus"}]}, False),
        ({"instances": [{"age": 1.0}]}, False),
        ({"instances": [EXAMPLE], "columns": {"age": [1.0], "plan": ["basic"]}}, False),
        ({"columns": {"age": [1.0]}}, False),
        ({"columns": {"age": 1.0, "plan": "basic"}}, False),
        ({"rows": [EXAMPLE]}, False),
        ({}, False),
    ],
)
def test_a_models_request_is_typed(body: object, expected: bool) -> None:
    """The request schema takes rows or columns that fit the model's fields, and only one of them."""
    assert expected == fits(openapi_document([model()], "0.1"), "churn.Request", body)


@pytest.mark.parametrize(
    ("outputs", "right", "wrong"),
    [
        (YES_NO, {"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}}, {"label": "maybe"}),
        (
            OutputSpec(kind="classification", classes=(False, True), has_probabilities=True),
            {"label": True, "probabilities": {"false": 0.5, "true": 0.5}},
            {"label": True, "probabilities": {"False": 0.5, "True": 0.5}},
        ),
        (OutputSpec(kind="classification", classes=(1, 2)), {"label": 2}, {"label": "2"}),
        (OutputSpec(kind="regression"), {"value": 1.5}, {"values": {"a": 1.5}}),
        (OutputSpec(kind="regression", targets=("a", "b")), {"values": {"a": 1, "b": 2}}, {"values": {"a": 1}}),
        (OutputSpec(kind="anomaly"), {"label": -1, "value": -0.2}, {"label": -1}),
    ],
)
def test_a_models_prediction_is_typed(outputs: OutputSpec, right: object, wrong: object) -> None:
    """The schema of a prediction has the members, classes and targets that the model declares."""
    document = openapi_document([model(outputs=outputs)], "0.1")
    assert [True, False] == [fits(document, "churn.Prediction", value) for value in (right, wrong)]


def test_each_example_fits_its_schema() -> None:
    """The example of the model's operation is a request that its schema takes."""
    document = openapi_document([model()], "0.1")
    content = document["paths"]["/v1/models/churn/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert {"instances": [EXAMPLE]} == content["example"]
    assert fits(document, "churn.Request", content["example"])


def test_a_lone_model_types_the_short_names() -> None:
    """With one model the short names take its rows; with several they take any model's."""

    def row_of(document: dict[str, Any]) -> str:
        body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        return str(body["properties"]["features"]["anyOf"][0]["$ref"])

    lone, several = openapi_document([model()], "1"), openapi_document([model("a"), model("b")], "1")
    assert (row_of(lone), row_of(several)) == ("#/components/schemas/churn.Row", "#/components/schemas/any.Row")
