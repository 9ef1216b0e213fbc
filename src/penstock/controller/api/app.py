"""The control API as an ASGI application: routes, document, and what every failure is answered with."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any, Final

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match

from penstock.controller.api.download import Downloads
from penstock.controller.api.endpoints import HEADERS, Endpoints, page
from penstock.controller.api.guard import Guard
from penstock.controller.api.reading import Uploads
from penstock.controller.api.records import RecordEndpoints
from penstock.controller.api.routes import SCOPE_KEY, components_of, routes_of
from penstock.controller.failures import control_error_body, may_be_tried_again, status_of
from penstock.controller.messages import JSON_MEDIA
from penstock.controller.operations import Operations
from penstock.errors import MethodNotAllowed, NotFound, PenstockError, Unreadable
from penstock.server.docs_page import DOCS_HEADERS, docs_page
from penstock.settings import Settings

_TOLD: Final = (
    "What ought to run here, who decided it, and what did run. Everything of the command line: publish, deploy, roll "
    'back, history. Errors are {"error": {"code", "message"}}.\n'
    "It takes no keys yet: whoever reaches this port may do all of it."
)


def api_of(operations: Operations, settings: Settings) -> FastAPI:
    """The control API over `operations`. Only the holder of the home's lock makes one: it clears `transit` there."""
    home = Path(settings.home)
    app = FastAPI(
        title="Penstock control",
        version=metadata.version("penstock"),
        description=_TOLD,
        openapi_url=None,
        redirect_slashes=False,
    )
    endpoints = Endpoints(operations, Uploads(home, settings.control.max_bundle_bytes), Downloads(home))
    routes = routes_of(endpoints, RecordEndpoints(home))
    for route in routes:
        app.add_api_route(**route.arguments)
    document = {**app.openapi()}
    document["components"] = {"schemas": components_of(routes)}
    _add_pages(app, document)
    for kind in (PenstockError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _failed)
    own = () if settings.control.host in ("0.0.0.0", "::") else (settings.control.host,)
    app.add_middleware(Guard, hosts=(*settings.control.hosts, *own))
    return app


def uvicorn_config(app: FastAPI, *, end_s: int = 3) -> uvicorn.Config:
    """How the API is run: by h11, which unlike httptools refuses a request's head that never ends."""
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=end_s,
    )


def _add_pages(app: FastAPI, document: dict[str, Any]) -> None:
    """The document for programs and for people, made once: nothing of it comes from another server."""
    text, html = msgspec.json.encode(document), docs_page(document)
    html_headers = {name.decode(): value.decode() for name, value in DOCS_HEADERS}

    async def openapi() -> Response:
        return page(text, {"content-type": JSON_MEDIA})

    async def docs() -> Response:
        return page(html, html_headers)

    for path, endpoint in (("/openapi.json", openapi), ("/docs", docs)):
        extra = {SCOPE_KEY: "read"}
        app.add_api_route(path, endpoint, methods=["GET"], include_in_schema=False, openapi_extra=extra)


async def _failed(request: Request, error: Exception) -> Response:
    """The answer to a request that ended in `error`."""
    failure = _understood(request, error)
    status = status_of(failure)
    headers = dict(HEADERS)
    if may_be_tried_again(status):
        headers["retry-after"] = "1"
    if isinstance(failure, MethodNotAllowed):
        headers["allow"] = ", ".join(failure.allowed)
    return Response(control_error_body(failure), status, media_type=JSON_MEDIA, headers=headers)


def _understood(request: Request, error: Exception) -> Exception:
    """What the frameworks raise, as failures of ours."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return Unreadable(f"{first['msg']} - at {' '.join(map(str, first['loc']))}")
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            methods = _methods_at(request)
            return MethodNotAllowed(f"this path answers {', '.join(methods)}, not {request.method[:20]}", methods)
        if error.status_code == 404:
            return NotFound("no such path; GET /docs shows what there is")
        return Unreadable(str(error.detail))
    return error


def _methods_at(request: Request) -> tuple[str, ...]:
    """The methods of all routes of the path that is asked for: each route itself knows only its own."""
    routes = (route for route in request.app.routes if isinstance(route, APIRoute))
    found = {
        method for route in routes if route.matches(request.scope)[0] != Match.NONE for method in route.methods or ()
    }
    return tuple(sorted(found))
