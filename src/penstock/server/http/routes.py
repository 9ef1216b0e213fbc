"""The routes of the data port: one table, each with the permission that it needs."""

from __future__ import annotations

import functools
import re
from typing import Final, Literal

import msgspec

from penstock.errors import CallFailure, MethodNotAllowed, NotFound

Permission = Literal["predict", "feedback", "read", "public"]


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
    Route("POST", "/v2/models/{model}/infer", "infer", "predict"),
    Route("POST", "/v2/models/{model}/versions/{version}/infer", "infer", "predict"),
    Route("GET", "/v2", "v2_server", "read"),
    Route("GET", "/v2/health/live", "v2_live", "public"),
    Route("GET", "/v2/health/ready", "v2_ready", "public"),
    Route("GET", "/v2/models/{model}", "v2_model", "read"),
    Route("GET", "/v2/models/{model}/versions/{version}", "v2_model", "read"),
    Route("GET", "/v2/models/{model}/ready", "v2_model_ready", "read"),
    Route("GET", "/v2/models/{model}/versions/{version}/ready", "v2_model_ready", "read"),
    Route("POST", "/v2/repository/index", "v2_index", "read"),
    Route("POST", "/v1/models/{model}:predict", "tf_predict", "predict"),
    Route("POST", "/v1/models/{model}/versions/{version}:predict", "tf_predict", "predict"),
    Route("POST", "/v1/models/{model}/labels/{alias}:predict", "tf_predict", "predict"),
    Route("POST", "/v1/models/{model}:classify", "tf_classify", "predict"),
    Route("POST", "/v1/models/{model}/versions/{version}:classify", "tf_classify", "predict"),
    Route("POST", "/v1/models/{model}/labels/{alias}:classify", "tf_classify", "predict"),
    Route("POST", "/v1/models/{model}:regress", "tf_regress", "predict"),
    Route("POST", "/v1/models/{model}/versions/{version}:regress", "tf_regress", "predict"),
    Route("POST", "/v1/models/{model}/labels/{alias}:regress", "tf_regress", "predict"),
    Route("GET", "/v1/models/{model}/versions/{version}", "tf_status", "read"),
    Route("GET", "/v1/models/{model}/labels/{alias}", "tf_status", "read"),
    Route("GET", "/v1/models/{model}/metadata", "tf_metadata", "read"),
    Route("GET", "/v1/models/{model}/versions/{version}/metadata", "tf_metadata", "read"),
    Route("GET", "/v1/models/{model}/labels/{alias}/metadata", "tf_metadata", "read"),
    Route("POST", "/invocations", "invocations", "predict"),
    Route("GET", "/ping", "ping", "public"),
    Route("GET", "/version", "version", "read"),
    Route("GET", "/health", "health", "public"),
    Route("GET", "/health/live", "live", "public"),
    Route("GET", "/health/ready", "ready", "public"),
    Route("GET", "/metrics", "metrics", "read"),
    Route("GET", "/model/version", "model_version", "read"),
    Route("GET", "/v1/models", "models", "read"),
    Route("GET", "/v1/models/{model}", "model", "read"),
    Route("POST", "/v1/feedback", "feedback", "feedback"),
    Route("GET", "/v1/info", "info", "read"),
    Route("GET", "/openapi.json", "openapi", "read"),
    Route("GET", "/docs", "docs", "read"),
)

# No route is longer; whatever a caller makes up, the memory of the matches stays small.
_LONGEST: Final = 256
_UNKNOWN: Final = "no such path; GET /docs shows what there is"

Found = tuple[Route, dict[str, str]]


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]{1,64})", path.replace(".", r"\.")))


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
