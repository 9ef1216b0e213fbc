"""The route table: each route says who may use it and is answered by something that exists."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.app import own_metrics
from penstock.audit import AuditLog
from penstock.errors import MethodNotAllowed, NotFound
from penstock.runtime import Host
from penstock.server.http.pages import METRICS, Pages
from penstock.server.http.predictions import Predictions
from penstock.server.http.routes import ROUTES, Permission, Route, match
from penstock.server.measures import FEEDBACK, Measures
from penstock.server.predict import Predict
from penstock.server.witness import Witness
from penstock.telemetry import Registry


def test_each_route_declares_a_permission() -> None:
    """Every route names one of the known permissions; only health is public."""
    assert [] == [route for route in ROUTES if route.permission not in get_args(Permission)]
    assert {"/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready"} == {
        route.path for route in ROUTES if route.permission == "public"
    }
    assert {"predict", "feedback"} == {
        route.permission for route in ROUTES if route.method == "POST" and route.answer != "v2_index"
    }


def test_each_answer_is_known(tmp_path: Path) -> None:
    """What a route names is a protocol of the application or a page, and there is no page without a route."""
    host, registry = Host([]), Registry()
    pages = Pages(host, own_metrics(registry, 0), info={})
    witness = Witness(slow_ms=0)
    predict = Predict(host, AuditLog(tmp_path), measures=Measures(registry), witness=witness, max_rows=1)
    predictions = Predictions(predict, max_body_bytes=1, deadline_ms=1)
    known = {**predictions._faces, **pages._answers, METRICS: None, FEEDBACK: None}
    assert {route.answer for route in ROUTES} == set(known)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_each_route_is_found(route: Route) -> None:
    """A path of a route's form finds that route, with the names in the path."""
    names = {"model": "churn", "version": "3", "alias": "champion"}
    found = match(route.method, route.path.format(**names))
    assert (route, {name: names[name] for name in names if f"{{{name}}}" in route.path}) == found


def test_head_is_get() -> None:
    """HEAD finds what GET finds, and nothing that only POST answers."""
    assert match("GET", "/health") == match("HEAD", "/health")
    assert isinstance(match("HEAD", "/predict"), MethodNotAllowed)


@pytest.mark.parametrize("path", ["/v1/models/churn:predict", "/v1/models/churn/versions/3:predict"])
def test_a_colon_ends_a_name(path: str) -> None:
    """What TensorFlow Serving writes behind a model's name is no part of it."""
    found = match("OPTIONS", path)
    assert isinstance(found, MethodNotAllowed)
    assert ("POST",) == found.allowed


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "/predict/",
        "/predict?x",
        "/v1/models//predict",
        "/v1/models/" + "a" * 65,
        "/V1/models",
        "/health\n",
    ],
)
def test_unknown_paths(path: str) -> None:
    """What is not exactly a route's path is not found."""
    assert isinstance(match("POST", path), NotFound)


@given(st.text(max_size=30), st.text(max_size=80))
def test_match_never_raises(method: str, path: str) -> None:
    """Whatever method and path come, there is a route or a failure to answer with."""
    assert isinstance(match(method, path), tuple | NotFound | MethodNotAllowed)
