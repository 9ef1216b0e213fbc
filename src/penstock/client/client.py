"""The client that waits: `client.calls` says what to send, `client.exchange` what the outcome means."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
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


class Client:
    """A Penstock server, asked from ordinary code. Thread-safe; close it, or use it as a context manager.

    `timeout_s` bounds a whole call, its repetitions and waits included. A call is repeated up to `retries` times, a
    prediction only where it cannot have run (no connection, 429, 503). With `gzip` bodies above
    1 KiB are packed. Errors of every method: `ServerUnreachable`,
    `ServerRefused` with the server's code, request id and violations, `ClientError` for what cannot be sent or read.
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
    ) -> None:
        self._connection = Connection(
            base_url=base_url, api_key=api_key, timeout_s=timeout_s, retries=retries, headers=headers, gzip=gzip
        )
        self._http = httpx.Client(
            base_url=base_url, headers=self._connection.sent_headers, limits=self._connection.limits
        )

    def predict(
        self,
        model: str,
        rows: object,
        **options: Unpack[PredictOptions],
    ) -> Answer:
        """Predictions of `model` for `rows`: a dict, an iterable of dicts, or a pandas, polars or Arrow frame.

        `key` keeps a caller on one arm of a rollout. `version` or `alias` chooses a version, else the server does.
        `request_id` is the caller's own id, kept in the record. After `deadline_ms` the server gives up. With `format`
        "arrow" rows (a frame, or a dict of columns) go as Arrow's stream, as frames of 1,000 rows or more do by
        themselves where pyarrow is installed.
        """
        return self._ask(predict_call(model, rows, Options(**options, gzip=self._connection.gzip)))

    def feedback(
        self, request_id: str | None = None, *, actual: object, **options: Unpack[FeedbackOptions]
    ) -> FeedbackTaken:
        """Say what came true of row `index` (0) of the answer `request_id`: its label, its value, its values by target.

        In place of the id a `key` with its `model` means the last call for that key before `at`, which is since when it
        is known (now). Say it again when it changes: what comes later counts, and everything is kept.
        """
        return self._ask(feedback_call(request_id, actual, options))

    def feedback_many(self, statements: object) -> FeedbackTaken:
        """The same for many: a list of dicts, or a frame, with `request_id`, `actual` and so on; 1,000 in a call.

        Each call is taken or refused as a whole; those before a refused one are taken, and may be sent again.
        """
        return together([self._ask(call) for call in feedback_calls(statements)])

    def models(self) -> tuple[ModelStatus, ...]:
        """The models that the server knows."""
        return self._ask(models_call()).models

    def model(self, name: str) -> ModelStatus:
        """One model: its versions, aliases and the schema of its rows."""
        return self._ask(model_call(name))

    def health(self) -> Health:
        """Whether the server answers predictions; an unwell server is an answer, not an error."""
        return self._ask(health_call())

    def info(self) -> ServerInfo:
        """What runs on the server."""
        return self._ask(info_call())

    def close(self) -> None:
        """Closes the connections; the client is of no use afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call[Body]) -> Body:
        connection = self._connection
        deadline_s = time.monotonic() + connection.timeout_s
        number = 0
        while True:
            number += 1
            outcome = self._send(call, deadline_s)
            attempt = Attempt(number, deadline_s - time.monotonic())
            pause_s = wait_s(call, outcome, attempt, retries=connection.retries, chance=random.random())
            if pause_s is None:
                return result(call, outcome, url=connection.base_url, timeout_s=connection.timeout_s)
            time.sleep(pause_s)

    def _send(self, call: Call[Body], deadline_s: float) -> Outcome:
        left_s = max(0.001, deadline_s - time.monotonic())
        try:
            with self._http.stream(
                call.method, call.path, content=call.content, headers=call.headers, timeout=left_s
            ) as response:
                body = bytearray()
                # httpx bounds each read, not the sum of them: a server that drips could hold the caller for ever.
                for part in response.iter_bytes():
                    body += part
                    if time.monotonic() > deadline_s:
                        raise TimeoutError("the time was over in the middle of the answer")
        except (httpx.RequestError, TimeoutError) as error:
            return broken_by(error)
        return reply_of(response, bytes(body))
