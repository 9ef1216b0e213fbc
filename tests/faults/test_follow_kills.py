"""The follower beside a real server whose workers are killed under load."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from pathlib import Path

import msgspec

from loads import IRIS, Load, wait_for, workers_of
from penstock.audit.follow import Follower
from penstock.audit.position import Position
from rows import IRIS_ROW
from running import records, request, running

WORKERS = 2
KILLS = 2


class Sink:
    """A reader that keeps the ids of records with its position, and begins again from what it kept."""

    def __init__(self, audit: Path) -> None:
        self._audit = audit
        self._kept: tuple[list[str], bytes] = ([], Position().as_json())

    def catch_up(self, batches: int) -> int:
        """Read on from the saved position with a follower of its own, save halfway, and forget the rest."""
        reader = Follower(self._audit).reader(Position.from_json(self._kept[1]))
        found: list[str] = []
        for number in range(batches):
            batch = reader.read()
            if batch is None:
                break
            found += [record.request_id for record in batch.records]
            if number % 2 == 0:
                self._kept = ([*self._kept[0], *found], reader.position.as_json())
                found = []
        return len(self._kept[0])

    @property
    def ids(self) -> list[str]:
        return self._kept[0]


def test_kills_under_load(bundles: dict[str, Path], tmp_path: Path) -> None:
    """Followed while workers write and are killed, every record comes exactly once, answered calls' above all."""
    chance = random.Random(20261120)
    data = request(IRIS, msgspec.json.encode({"instances": [IRIS_ROW]}))
    sink = Sink(tmp_path / "audit")
    with (
        running([bundles["iris"]], tmp_path, "--workers", str(WORKERS)) as server,
        Load(server, 8, data) as load,
    ):
        for _ in range(KILLS):
            load.wait_for(200)
            sink.catch_up(chance.randint(1, 9))
            os.kill(chance.choice(workers_of(server)), signal.SIGKILL)
            sink.catch_up(chance.randint(1, 9))
            wait_for(lambda: len(workers_of(server)) == WORKERS, "all workers")
    while sink.catch_up(1) < len(records(tmp_path)):
        pass
    assert Counter(record.request_id for record in records(tmp_path)) == Counter(sink.ids)
    assert set(load.answered) <= set(sink.ids)
