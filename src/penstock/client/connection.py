"""What both clients are made with: the address, who asks, and how long and how often."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import msgspec

from penstock.errors import ClientError

# Shorter than the server's `keep_alive_s` (5 s), so that a prediction is not sent into a connection being closed.
_KEEP_IDLE_S = 4.0


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a client. Raises `ClientError` when they cannot work."""

    base_url: str
    api_key: str | None = None
    timeout_s: float = 10.0
    retries: int = 2
    headers: Mapping[str, str] | None = None
    gzip: bool = False
    most_at_a_time: int = 100

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise ClientError(f"Expected an address, got {self.base_url!r} ({error}) - at `base_url`.") from error
        if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65535:
            raise ClientError(
                f"Expected an address as in `http://127.0.0.1:8080`, got {self.base_url!r} - at `base_url`."
            )
        if not self.timeout_s > 0:
            raise ClientError(f"Expected more than 0 s, got {self.timeout_s} - at `timeout_s`.")
        if self.retries < 0:
            raise ClientError(f"Expected 0 or more, got {self.retries} - at `retries`.")
        if self.most_at_a_time < 1:
            raise ClientError(f"Expected at least 1, got {self.most_at_a_time} - at `max_concurrency`.")

    def __repr__(self) -> str:
        return f"Connection({self.base_url!r})"

    @property
    def sent_headers(self) -> dict[str, str]:
        """Headers of every request; what the caller gave wins."""
        key = {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}
        given = {name.lower(): value for name, value in (self.headers or {}).items()}
        return {"user-agent": "penstock-client", **key, **given}

    @property
    def limits(self) -> httpx.Limits:
        """How many connections are open, and how long an idle one is kept."""
        most = self.most_at_a_time
        return httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=_KEEP_IDLE_S)
