"""The routes of the data port: one table, each with the permission that it needs."""

from __future__ import annotations

import functools
import re
from typing import Final, Literal

import msgspec

from penstock.errors import CallFailure, MethodNotAllowed, NotFound

Permission = Literal["predict", "read", "public"]


class Route(msgspec.Struct, frozen=True):
    """A method and a path, the name of what answers there, and the permission that a caller needs."""

    method: Literal["GET", "POST"]
    path: str
    answer: str
    permission: Permission


ROUTES: Final = (
    Route("POST", "/v1/models/{model}/predict", "predict", "predict"),
    Route("POST", "/v1/models/{model}/versions/{version}/predict", "predict", "predict"),
    Route("POST", "/v1/models/{model}/aliases/{alias}/predict", "predict", "predict"),
    Route("POST", "/predict", "short", "predict"),
    Route("POST", "/batch_predict", "short_batch", "predict"),
    Route("GET", "/health", "health", "public"),
    Route("GET", "/health/live", "live", "public"),
    Route("GET", "/health/ready", "ready", "public"),
    Route("GET", "/metrics", "metrics", "read"),
    Route("GET", "/model/version", "model_version", "read"),
    Route("GET", "/v1/models", "models", "read"),
    Route("GET", "/v1/models/{model}", "model", "read"),
    Route("GET", "/v1/info", "info", "read"),
    Route("GET", "/openapi.json", "openapi", "read"),
    Route("GET", "/docs", "docs", "read"),
)

# No route is longer; whatever a caller makes up, the memory of the matches stays small.
_LONGEST: Final = 256
_UNKNOWN: Final = "no such path; GET /docs shows what there is"

Found = tuple[Route, dict[str, str]]


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]{1,64})", path.replace(".", r"\.")))


_PATTERNS: Final = tuple((route, _pattern(route.path)) for route in ROUTES)


def match(method: str, path: str) -> Found | CallFailure:
    """The route of a request and the names in its path, or the failure to answer with."""
    return _match(method, path) if len(path) <= _LONGEST else NotFound(_UNKNOWN)


@functools.lru_cache(1024)
def _match(method: str, path: str) -> Found | CallFailure:
    method = "GET" if method == "HEAD" else method
    allowed: list[str] = []
    for route, pattern in _PATTERNS:
        found = pattern.fullmatch(path)
        if found is not None:
            if route.method == method:
                return route, found.groupdict()
            allowed += ["GET", "HEAD"] if route.method == "GET" else [route.method]
    if allowed:
        return MethodNotAllowed(f"{path} answers {', '.join(allowed)}, not {method[:20]}", tuple(allowed))
    return NotFound(_UNKNOWN)
