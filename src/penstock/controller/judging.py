"""One rollout under judgement: what this machine's log says of it, followed and kept across restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.follow import Follower, Reader
from penstock.audit.position import Position
from penstock.control.answers import Judged, Sample
from penstock.control.rollouts import RolloutState
from penstock.durable import make_directory, write_whole
from penstock.jobs.observing import Observer
from penstock.rollout.counts import totals
from penstock.rollout.evidence import Evidence

ROLLOUTS: Final = "rollouts"
_SAVE_S: Final = 2.0
_LOOK_S: Final = 0.5
_MOST_SAMPLES: Final = 120
_UNBOUNDED: Final = 1e6


class Kept(msgspec.Struct):
    """What is on disk: the evidence, and the position in the log that it goes to. Both or neither."""

    position: Position
    observer: Observer
    samples: list[Sample] = []


class Judging:
    """Follows the log for one rollout. Its file is `<home>/rollouts/<id>.json`; begun anew it goes on from there, so
    that nothing counts twice. Not thread-safe. `clock` gives Unix seconds.
    """

    def __init__(
        self, home: Path, rollout: RolloutState, follower: Follower, clock: Callable[[], float] = time.time
    ) -> None:
        """Raises OSError where its file cannot be read, SegmentError where the log cannot, ValueError for another's."""
        self._path = path_of(home, rollout.id)
        self._clock = clock
        self._saved_s = 0.0
        kept = read_kept(self._path)
        if kept is None:
            kept = Kept(follower.end(), Observer(rollout.id, Evidence.of(rollout.plan.watch)))
            self._write(kept)
        self._kept = kept
        self._reader: Reader = follower.reader(kept.position)

    def look(self) -> Judged:
        """Read what is new, for half a second at most, and say what is known. Raises SegmentError and OSError."""
        until_s = time.monotonic() + _LOOK_S
        while time.monotonic() < until_s:
            batch = self._reader.read()
            if batch is None:
                break
            self._kept.observer.observe(batch.records, batch.run)
        self._kept.observer.mature(self._clock())
        if time.monotonic() - self._saved_s > _SAVE_S:
            self.save()
        return self.judged()

    def judged(self) -> Judged:
        """What is known now."""
        return msgspec.structs.replace(judged_of(self._kept), lag=self._reader.lag())

    def _sample(self) -> None:
        """Remember this moment for pictures; when there are too many, every second one goes."""
        samples, judged = self._kept.samples, judged_of(self._kept)
        if samples and samples[-1].canary_n + samples[-1].champion_n == judged.canary_n + judged.champion_n:
            return
        ratios = {
            one.name: (one.lower, one.ratio, _UNBOUNDED if one.upper is None else one.upper)
            for one in judged.readings
            if one.ratio is not None and one.canary_events + one.champion_events
        }
        samples.append(
            Sample(at_s=round(self._clock(), 1), canary_n=judged.canary_n, champion_n=judged.champion_n, ratios=ratios)
        )
        if len(samples) > _MOST_SAMPLES:
            del samples[1::2]

    @property
    def position(self) -> Position:
        """How far the log is read."""
        return self._reader.position

    def save(self) -> None:
        """Write evidence and position to the file, both at once. Raises OSError; the file is then as it was before."""
        self._kept.position = self._reader.position
        self._sample()
        self._write(self._kept)

    def _write(self, kept: Kept) -> None:
        make_directory(self._path.parent)
        draft = self._path.with_suffix(".partial")
        write_whole(self._path, msgspec.json.encode(kept), draft=draft, mode=0o600)
        self._saved_s = time.monotonic()


def judged_of(kept: Kept) -> Judged:
    """What is known by what is kept."""
    observer = kept.observer
    evidence = observer.evidence
    canary_n, champion_n = totals(evidence.requests)
    return Judged(
        readings=evidence.readings(),
        intervals=evidence.intervals(),
        canary_n=canary_n,
        champion_n=champion_n,
        left_out=evidence.left_out,
        waiting=len(observer.waiting),
        unwatched=observer.unwatched,
        samples=tuple(kept.samples),
    )


def path_of(home: Path, rollout: str) -> Path:
    """Where the evidence of a rollout is kept."""
    return home / ROLLOUTS / f"{rollout}.json"


def read_kept(path: Path) -> Kept | None:
    """What is kept at `path`; None where nothing is. Raises OSError, and ValueError naming a file that is not ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: expected the evidence of a rollout, got something else: {error}. Abort the rollout, or put back "
            "the file from a backup"
        ) from error
