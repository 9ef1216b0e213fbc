"""Load by callers who ask once each, and what arm answered them."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Final

import msgspec

from loads import Load, ask
from running import Running, request

MODEL: Final = "amount"
_FAILS: Final = 1e308
"""A row of `amount` that no version of it can answer."""


class Reply(msgspec.Struct, frozen=True):
    """When a call was answered (Unix seconds), and by which arm ("" without an experiment)."""

    at: float
    arm: str


class Strangers(Load):
    """Asks `amount`, each call with a key of its own, `breath_s` apart on each connection. Whom the champion answers,
    every `spoilt`th asks once more what cannot be answered; `statuses` and `replies` leave that out.
    """

    def __init__(self, server: Running, callers: int, *, breath_s: float = 0.0, spoilt: int = 0) -> None:
        super().__init__(server, callers, b"")
        self.replies: list[Reply] = []
        self._breath_s, self._spoilt = breath_s, spoilt
        self._numbers = itertools.count(1)

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_last = False
        while not (self._is_over or is_last):
            number = next(self._numbers)
            told = await ask(reader, writer, _call(number, 1.0 + number % 60))
            arm = msgspec.json.decode(told.body).get("arm", "") if told.status == 200 else "failed"
            self.statuses[told.status] += 1
            self.replies.append(Reply(time.time(), arm))
            self.answered.append("")
            is_last = told.is_last
            if self._spoilt and arm == "champion" and number % self._spoilt == 0 and not is_last:
                is_last = (await ask(reader, writer, _call(number, _FAILS))).is_last
            if self._breath_s:
                await asyncio.sleep(self._breath_s)

    def of(self, arm: str) -> list[Reply]:
        """The replies of an arm."""
        return [reply for reply in self.replies if reply.arm == arm]


def _call(number: int, x: float) -> bytes:
    body = msgspec.json.encode({"instances": [{"x": x}], "key": f"stranger-{number}"})
    return request(f"/v1/models/{MODEL}/predict", body)
