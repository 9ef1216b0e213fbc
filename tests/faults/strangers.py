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
FAILS: Final = 1e308
"""A row of `amount` that no version of it can answer."""


class Strangers(Load):
    """Asks `amount`, each call with a key of its own, `breath_s` apart on each connection. `arms` says when each answer
    came (seconds, monotonic) and of which arm. Of every `spoilt`th answer of the champion, the
    caller asks once more what cannot be answered; `failed` counts those, `statuses` the others.
    """

    def __init__(self, server: Running, callers: int, *, breath_s: float = 0.0, spoilt: int = 0) -> None:
        super().__init__(server, callers, b"")
        self.arms: list[tuple[float, str]] = []
        self.failed = 0
        self._breath_s, self._spoilt = breath_s, spoilt
        self._numbers = itertools.count(1)

    async def _use(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self._is_over:
            number = next(self._numbers)
            told = await ask(reader, writer, _call(number, 1.0 + number % 60))
            arm = msgspec.json.decode(told.body).get("arm", "") if told.status == 200 else "failed"
            self.statuses[told.status] += 1
            self.arms.append((time.monotonic(), arm))
            self.answered.append("")
            if told.is_last:
                return
            if self._spoilt and arm == "champion" and number % self._spoilt == 0:
                told = await ask(reader, writer, _call(number, FAILS))
                self.failed += told.status != 200
                if told.is_last:
                    return
            if self._breath_s:
                await asyncio.sleep(self._breath_s)

    def asked(self, arm: str, since_s: float = 0.0) -> int:
        """How many answers of an arm came after `since_s`."""
        return sum(one == arm for at_s, one in self.arms if at_s > since_s)


def _call(number: int, x: float) -> bytes:
    body = msgspec.json.encode({"instances": [{"x": x}], "key": f"stranger-{number}"})
    return request(f"/v1/models/{MODEL}/predict", body)
