"""The client for asyncio: the same calls and decisions as `client.client`, awaited."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Self, Unpack

import httpx

from penstock.client.answers import Answer, FeedbackTaken, Health, ModelStatus, ServerInfo
from penstock.client.calls import (
    Body,
    Call,
    Options,
    PredictOptions,
    health_call,
    info_call,
    model_call,
    models_call,
    predict_call,
)
from penstock.client.connection import Connection
from penstock.client.exchange import Attempt, Outcome, broken_by, reply_of, result, wait_s
from penstock.client.statements import FeedbackOptions, feedback_call, feedback_calls, together


class AsyncClient:
    """A Penstock server, asked from asyncio. One event loop; any number of tasks; `async with`, or await `aclose`.

    Arguments, results, repetitions and errors are those of `Client`. A cancelled call is not repeated. At most
    `max_concurrency` calls are under way, each on a connection that is kept for the next; others wait for their turn,
    and their time begins with it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        retries: int = 2,
        headers: Mapping[str, str] | None = None,
        gzip: bool = False,
        max_concurrency: int = 64,
    ) -> None:
        self._connection = Connection(
            base_url=base_url,
            api_key=api_key,
            timeout_s=timeout_s,
            retries=retries,
            headers=headers,
            gzip=gzip,
            most_at_a_time=max_concurrency,
        )
        self._room = asyncio.Semaphore(max_concurrency)
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=self._connection.sent_headers, limits=self._connection.limits
        )

    async def predict(
        self,
        model: str,
        rows: object,
        **options: Unpack[PredictOptions],
    ) -> Answer:
        """Predictions of `model` for `rows`; the arguments are those of `Client.predict`."""
        return await self._ask(predict_call(model, rows, Options(**options, gzip=self._connection.gzip)))

    async def predict_many(
        self,
        model: str,
        batches: Iterable[object] | AsyncIterable[object],
        **options: Unpack[PredictOptions],
    ) -> AsyncIterator[Answer]:
        """The answers to `batches` of rows in their order, `max_concurrency` of them asked at a time.

        `batches` is read no further than that, and may be without end. `options` are those of `predict`. The first
        error ends it: what is under way is cancelled, and what the server has answered by then is in its records.
        """
        waiting: deque[asyncio.Task[Answer]] = deque()
        try:
            async for rows in _each(batches):
                waiting.append(asyncio.create_task(self.predict(model, rows, **options)))
                if len(waiting) >= self._connection.most_at_a_time:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def feedback(
        self, request_id: str | None = None, *, actual: object, **options: Unpack[FeedbackOptions]
    ) -> FeedbackTaken:
        """Say what came true of an answer; the arguments are those of `Client.feedback`."""
        return await self._ask(feedback_call(request_id, actual, options))

    async def feedback_many(self, statements: object) -> FeedbackTaken:
        """As `Client.feedback_many`, one call after the other."""
        return together([await self._ask(call) for call in feedback_calls(statements)])

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
        async with self._room:
            return await self._ask_now(call)

    async def _ask_now(self, call: Call[Body]) -> Body:
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


async def _each(batches: Iterable[object] | AsyncIterable[object]) -> AsyncIterator[object]:
    if isinstance(batches, AsyncIterable):
        async for rows in batches:
            yield rows
    else:
        for rows in batches:
            yield rows
