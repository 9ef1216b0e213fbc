"""Records as a server writes them, millions of them: answers of a model of twelve columns, with keys, over two days."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import msgspec

from penstock.audit import Answered, AuditLog, Pseudonyms, RequestIds, opening_of
from penstock.schema import Check, Field, Schema

TICK = 16
DAYS = 2
BEGIN = datetime(2026, 11, 19, tzinfo=UTC)
ASKED_DAY = (BEGIN + timedelta(days=1)).date()
_CUSTOMERS = 100_000
_MODEL = "churn"
_WORDS = {"region": ("north", "south", "east", "west"), "plan": ("basic", "plus", "pro")}
_NUMBERS = tuple(f"usage_{place}" for place in range(1, 10))
_SCHEMA = Schema(
    fields=(
        Field(name="age", type="int"),
        *(Field(name=name, type="float") for name in _NUMBERS),
        *(Field(name=name, type="string") for name in _WORDS),
    )
)


class Filler:
    """Writes `total` records in portions, spread evenly over the days; remembers one id of each portion."""

    def __init__(self, audit: Path, total: int) -> None:
        step_ns = int(timedelta(days=DAYS) / timedelta(microseconds=1)) * 1000 // total
        begin_ns = int(BEGIN.timestamp()) * 10**9
        self.ids: list[str] = []
        self._audit = audit
        self._made = RequestIds((begin_ns + number * step_ns for number in count()).__next__)
        self._draw = random.Random(7)
        self._secret = Pseudonyms(b"secret of the home")
        self._row = Check(_SCHEMA).row
        self._openings = [_opening(version) for version in (1, 2, 3)]

    def write(self, records: int) -> None:
        """So many more, by a log of their own, in ticks of 16."""
        asyncio.run(self._write(records))

    async def _write(self, records: int) -> None:
        kept = self._draw.randrange(records)
        async with AuditLog(self._audit) as log:
            for number in range(records):
                answer, rows, outputs = self._answer()
                log.append_answer(answer, self._openings[number % 3], rows, outputs)
                if number == kept:
                    self.ids.append(answer.request_id)
                if number % TICK == TICK - 1:
                    await asyncio.sleep(0)

    def _answer(self) -> tuple[Answered, list[msgspec.Struct], bytes]:
        draw = self._draw
        age = draw.randrange(18, 90)
        numbers = [round(draw.random() * 100, 3) for _ in _NUMBERS]
        row = self._row(age, *numbers, *(draw.choice(words) for words in _WORDS.values()))
        share = draw.random()
        answer = Answered(
            self._made.next(),
            self._made.at,
            1,
            TICK,
            round(draw.random(), 3),
            round(draw.random(), 3),
            round(draw.expovariate(1.0), 3),
            key=self._secret.of_key(f"customer-{draw.randrange(_CUSTOMERS)}"),
        )
        outputs = {"label": "yes" if share > 0.5 else "no", "probabilities": {"no": 1 - share, "yes": share}}
        return answer, [row], msgspec.json.encode([outputs])


def _opening(version: int) -> bytes:
    return opening_of(model=_MODEL, version=version, digest="sha256:" + f"{version}" * 64, protocol="penstock")
