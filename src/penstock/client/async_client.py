"""The client for asyncio: the same calls and decisions as `client.client`, awaited."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx

from penstock.client.answers import Answer, Health, ModelStatus, ServerInfo
from penstock.client.calls import (
    Body,
    Call,
    Options,
    health_call,
    info_call,
    model_call,
    models_call,
    predict_call,
)
from penstock.client.connection import Connection
from penstock.client.exchange import Attempt, Outcome, broken_by, reply_of, result, wait_s


class AsyncClient:
    """A Penstock server, asked from asyncio. One event loop; any number of tasks; `async with`, or await `aclose`.

    Arguments, results, repetitions and errors are those of `Client`. A cancelled call is not repeated.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._connection = Connection(
            base_url=base_url, api_key=api_key, timeout_s=timeout_s, retries=retries, headers=headers
        )
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=self._connection.sent_headers, limits=self._connection.limits
        )

    async def predict(
        self,
        model: str,
        rows: object,
        *,
        key: str | None = None,
        version: int | None = None,
        alias: str | None = None,
        params: Mapping[str, object] | None = None,
        request_id: str | None = None,
        deadline_ms: int | None = None,
    ) -> Answer:
        """Predictions of `model` for `rows`; the arguments are those of `Client.predict`."""
        options = Options(
            key=key, version=version, alias=alias, params=params, request_id=request_id, deadline_ms=deadline_ms
        )
        return await self._ask(predict_call(model, rows, options))

    async def models(self) -> tuple[ModelStatus, ...]:
        """The models that the server knows."""
        return (await self._ask(models_call())).models

    async def model(self, name: str) -> ModelStatus:
        """One model: its versions, aliases and the schema of its rows."""
        return await self._ask(model_call(name))

    async def health(self) -> Health:
        """Whether the server answers predictions; an unwell server is an answer, not an error."""
        return await self._ask(health_call())

    async def info(self) -> ServerInfo:
        """What runs on the server."""
        return await self._ask(info_call())

    async def aclose(self) -> None:
        """Closes the connections; the client is of no use afterwards."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(self, call: Call[Body]) -> Body:
        connection = self._connection
        deadline_s = time.monotonic() + connection.timeout_s
        number = 0
        while True:
            number += 1
            outcome = await self._send(call, deadline_s)
            attempt = Attempt(number, deadline_s - time.monotonic())
            pause_s = wait_s(call, outcome, attempt, retries=connection.retries, chance=random.random())
            if pause_s is None:
                return result(call, outcome, url=connection.base_url, timeout_s=connection.timeout_s)
            await asyncio.sleep(pause_s)

    async def _send(self, call: Call[Body], deadline_s: float) -> Outcome:
        left_s = max(0.001, deadline_s - time.monotonic())
        try:
            async with asyncio.timeout(left_s):
                response = await self._http.request(
                    call.method, call.path, content=call.content, headers=call.headers, timeout=left_s
                )
        except (httpx.RequestError, TimeoutError) as error:
            return broken_by(error)
        return reply_of(response, response.content)
