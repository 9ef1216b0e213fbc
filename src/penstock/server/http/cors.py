"""Cross-origin requests: nobody's by default, those of `server.cors_origins` where it is set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Headers = list[tuple[bytes, bytes]]

_ALLOWED = (
    b"access-control-allow-headers",
    b"authorization, content-encoding, content-type, x-deadline-ms, x-penstock-key, x-penstock-model, x-request-id",
)
_EXPOSED = (
    b"access-control-expose-headers",
    b"x-penstock-arm, x-penstock-cache, x-penstock-experiment, x-penstock-fallback, x-penstock-model, "
    b"x-penstock-request-id, x-penstock-version, x-request-id, retry-after",
)
_METHODS = (b"access-control-allow-methods", b"GET, POST")
_MAX_AGE = (b"access-control-max-age", b"600")


class Cors:
    """Answers browsers of the allowed origins. `origins` are exact, as `https://shop.example`; no wildcards."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, scope: Mapping[str, Any]) -> Headers:
        """The headers that let the page of an allowed origin read the answer; none for others."""
        if not self._origins:
            return []
        origin = _header(scope, b"origin")
        if origin not in self._origins:
            return []
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin"), _EXPOSED]

    def preflight(self, scope: Mapping[str, Any]) -> Headers | None:
        """The headers that answer a preflight of an allowed origin; None for everything else."""
        if scope["method"] != "OPTIONS" or not self._origins:
            return None
        allowed = self.headers(scope)
        return [*allowed, _ALLOWED, _METHODS, _MAX_AGE] if allowed else None


def _header(scope: Mapping[str, Any], wanted: bytes) -> bytes:
    found: bytes = next((value for name, value in scope["headers"] if name == wanted), b"")
    return found
