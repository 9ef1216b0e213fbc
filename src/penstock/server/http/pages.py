"""What the data port answers besides predictions: health, models, metrics, the API document."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from typing import Any

import msgspec

from penstock.errors import NotReady
from penstock.routing import RoutingTable
from penstock.runtime import Host
from penstock.schema.json_schema import json_schema
from penstock.server.descriptions import described, doc_of, names_of, shown
from penstock.server.docs_page import DOCS_HEADERS, docs_page
from penstock.server.openapi import openapi_document
from penstock.server.protocols.tf_models import TfModels
from penstock.server.protocols.v2_models import V2Models
from penstock.telemetry import CONTENT_TYPE

Headers = tuple[tuple[bytes, bytes], ...]
_JSON: Headers = ((b"content-type", b"application/json"),)
_TEXT: Headers = ((b"content-type", b"text/plain; charset=utf-8"),)


MetricsText = Callable[[], Awaitable[str]]
"""Gives the text of `/metrics`: of this process, or of all workers."""

METRICS = "metrics"


class Page(msgspec.Struct, frozen=True):
    """An answer that is no prediction."""

    body: bytes
    status: int = 200
    headers: Headers = _JSON


class Pages:
    """Answers the routes that run no model. `info` is what `/v1/info` says beyond the build."""

    def __init__(self, host: Host, metrics: MetricsText, *, info: Mapping[str, object]) -> None:
        self._host = host
        self._metrics_text = metrics
        self._info = dict(info)
        self._documented: RoutingTable | None = None
        self._made: dict[str, Any] = {}
        self._answers: dict[str, Callable[[Mapping[str, str]], Page]] = {
            "health": self._health,
            "live": lambda names: _json({"status": "live"}),
            "ready": self._ready,
            "model_version": self._model_version,
            "models": self._models,
            "model": self._model,
            "info": self._about,
            "ping": self._ping,
            "version": lambda names: Page(metadata.version("penstock").encode(), headers=_TEXT),
            "openapi": lambda names: _json(self._document),
            "docs": lambda names: Page(docs_page(self._document), headers=tuple(DOCS_HEADERS)),
            **{name: partial(_answered, answer) for name, answer in V2Models(host).answers.items()},
            **{name: partial(_answered, answer) for name, answer in TfModels(host).answers.items()},
        }

    async def page(self, name: str, names: Mapping[str, str]) -> Page:
        """The page called `name` in the route table; `names` are the parts of its path. Raises NotFound."""
        if name == METRICS:
            text = await self._metrics_text()
            return Page(text.encode(), headers=((b"content-type", CONTENT_TYPE.encode()),))
        return self._answers[name](names)

    def _health(self, names: Mapping[str, str]) -> Page:
        loaded = bool(self._host.table.models)
        status = "ok" if loaded else "no model"
        return _json({"status": status, "model_loaded": loaded, "timestamp": datetime.now(UTC)})

    def _ping(self, names: Mapping[str, str]) -> Page:
        """As MLflow and SageMaker ask whether predictions are answered."""
        if not self._host.is_ready:
            raise NotReady("the server is stopping" if self._host.is_stopping else "nothing is served yet")
        return _json({"status": "ok"})

    def _ready(self, names: Mapping[str, str]) -> Page:
        served = {name: dict(routes.aliases) for name, routes in self._host.table.models.items()}
        status = "stopping" if self._host.is_stopping else "ready" if served else "not ready"
        body: dict[str, Any] = {"status": status, "models": served}
        if self._host.failures:
            body["failures"] = sorted(self._host.failures)  # why is told by /v1/models
        return _json(body, 200 if status == "ready" else 503)

    def _model_version(self, names: Mapping[str, str]) -> Page:
        model = self._host.choose(None, None, None).model
        return _json({"model": model.name, "model_version": model.version, "digest": model.digest})

    def _models(self, names: Mapping[str, str]) -> Page:
        return _json({"models": [described(self._host, name) for name in names_of(self._host)]})

    def _model(self, names: Mapping[str, str]) -> Page:
        name = names["model"]
        told = described(self._host, name)
        if told["failures"] and not told["versions"]:
            return _json(told)  # none of its versions could be loaded: there is no schema to show
        return _json({**told, "schema": json_schema(shown(self._host, name).model.schema)})

    def _about(self, names: Mapping[str, str]) -> Page:
        build = {"penstock": metadata.version("penstock"), "python": platform.python_version()}
        return _json({**build, **self._info})

    @property
    def _document(self) -> dict[str, Any]:
        """The API document, made once for each table."""
        if self._documented is not self._host.table:
            self._documented, self._made = self._host.table, self._make_document()
        return self._made

    def _make_document(self) -> dict[str, Any]:
        docs = [doc_of(self._host, name) for name in sorted(self._host.table.models)]
        return openapi_document(docs, version=metadata.version("penstock"))


def _answered(answer: Callable[[Mapping[str, str]], object], names: Mapping[str, str]) -> Page:
    return _json(answer(names))


def _json(value: object, status: int = 200) -> Page:
    return Page(msgspec.json.encode(value), status)
