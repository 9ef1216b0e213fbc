"""A champion's answers in a log, and shadows of it that are killed at whatever step."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from penstock.audit import RequestIds
from penstock.audit.chain import read_records
from penstock.audit.commitment import Salts
from penstock.audit.record import Lines, Record
from penstock.audit.run import Run, Tick
from penstock.jobs.recorded import Asked
from penstock.jobs.scoring import Scoring
from penstock.jobs.shadow import Shadow
from penstock.jobs.shadow_log import SHADOW_WORKER, ShadowLog
from penstock.jobs.shadow_state import Shadowed
from penstock.runtime.model import Model

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Champion:
    """Writes what version 1 of a model answers, as a worker does: a run of the model is a write."""

    def __init__(self, home: Path, model: Model, worker: int = 0) -> None:
        self.model = model
        self._run = Run(home / "audit", worker=worker, segment_bytes=1 << 30, segment_s=1e9, clock=lambda: 0.0)
        self._run.open()
        self._ids, self._salts, self._next = RequestIds(), Salts(), 1

    def answer(self, *calls: Sequence[dict[str, Any]], **said: Any) -> list[str]:
        """Answer calls in one run; their ids. `said` replaces members of the records."""
        lines, ids = Lines(self._salts, self._next), []
        rows = sum(map(len, calls))
        for call in calls:
            checked = self.model.check.from_objects(list(call)).rows
            made: dict[str, Any] = {
                "kind": "prediction",
                "at": datetime.now(UTC),
                "version": 1,
                "input": checked,
                "outputs": self.model.score(checked),
                "rows": len(call),
                "batch_rows": rows,
                "run_ms": 0.5,
            }
            identity = {"request_id": self._ids.next(), "model": self.model.name, "digest": self.model.digest}
            record = Record(**{**made, **identity, **said})
            lines.add(record)
            ids.append(record.request_id)
        self._next = lines.next
        assert self._run.write(Tick(lines.written, lines.covered, lines.first, lines.next - 1, [], 0.0)) is None
        return ids


def shadowed(model: Model, champion: int = 1, since: datetime = BEGAN) -> Shadowed:
    """Version 2, which is `model`, shadows version 1."""
    return Shadowed(model=model.name, version=2, digest=model.digest, champion=champion, since=since)


def shadow_of(home: Path, model: Model, of: Shadowed | None = None, **given: Any) -> Shadow:
    """A shadow at its beginning, with a log of its own."""
    log = ShadowLog(home / "audit")
    log.open()
    of = of if of is not None else shadowed(model)
    return Shadow(home, of, Scoring(model, Asked(model=model.name)), log, **{"max_lag_s": 60.0, **given})


def caught_up(shadow: Shadow) -> Shadow:
    """The same, when it has read all there is."""
    while shadow.step():
        pass
    return shadow


def shadows_in(home: Path) -> list[Record]:
    """All records that shadows have written."""
    paths = sorted((home / "audit" / f"worker-{SHADOW_WORKER}").glob("*.jsonl"))
    return [record for path in paths for record in read_records(path)]


class Killed(BaseException):
    """In place of SIGKILL."""


def killing(effect: Callable[..., Any], may: Callable[[], bool]) -> Callable[..., Any]:
    """`effect`, before and after which the process dies where `may` says so."""

    def done(*given: Any, **named: Any) -> Any:
        if may():
            raise Killed
        result = effect(*given, **named)
        if may():
            raise Killed
        return result

    return done


def let_go(shadow: Shadow) -> None:
    """Close the files that the kernel closes for the dead, with nothing more written."""
    os.close(shadow._log._run.segment._fd)
    os.close(shadow._attempt._fd)
