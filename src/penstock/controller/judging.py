"""A rollout, or an arm of an A/B test, under judgement: what this machine's log says of it, kept across restarts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.follow import Follower, Reader
from penstock.audit.position import Position
from penstock.control.answers import Judged, Sample
from penstock.durable import make_directory, write_whole
from penstock.jobs.observing import Observer
from penstock.rollout.confidence import MEAN_ALPHA
from penstock.rollout.counts import totals

ROLLOUTS: Final = "rollouts"
_SAVE_S: Final = 2.0
_SAVE_SHARE: Final = 20.0
"""After writing, for how many times as long it is not written."""

_LOOK_S: Final = 0.5
_MOST_SAMPLES: Final = 120
_UNBOUNDED: Final = 1e6


class Kept(msgspec.Struct):
    """What is on disk: the evidence, and the position in the log that it goes to. Both or neither."""

    position: Position
    observer: Observer
    samples: list[Sample] = []


class Judging:
    """Follows the log for one rollout. Its file (`path_of`) is written every two seconds, or seldomer where that takes
    long; begun anew it goes on from there, so that nothing counts twice. Not thread-safe. `clock` gives Unix seconds.
    """

    def __init__(
        self,
        path: Path,
        fresh: Observer,
        follower: Follower,
        clock: Callable[[], float] = time.time,
        *,
        since: datetime | None = None,
    ) -> None:
        """`fresh` knows nothing yet, for where there is no file: it sees what comes from `since` on (None: now).

        Raises OSError where its file cannot be read, SegmentError where the log cannot, ValueError for another's.
        """
        self._path = path
        self._follower = follower
        self._clock = clock
        self._due_s = 0.0
        self._alpha = MEAN_ALPHA
        kept = read_kept(self._path)
        if kept is None:
            kept = Kept(follower.end() if since is None else follower.since(since), fresh)
            self._write(kept)
        self._kept = kept
        self._reader: Reader = follower.reader(kept.position)

    def look(self, alpha: float = MEAN_ALPHA) -> Judged:
        """Read what is new, for half a second at most, and say what is known; intervals of means hold at 1 - `alpha`.
        Raises SegmentError and OSError.
        """
        self._alpha = alpha
        until_s, is_behind = time.monotonic() + _LOOK_S, True
        while time.monotonic() < until_s:
            batch = self._reader.read()
            if batch is None:
                is_behind = False
                break
            self._kept.observer.observe(batch.records, batch.run)
        self._kept.observer.mature(self._clock(), is_behind=is_behind)
        if time.monotonic() > self._due_s:
            self.save()
        return self.judged()

    def skip(self) -> None:
        """Leave out what has come since the last look. Raises SegmentError."""
        self._reader = self._follower.reader(self._follower.end())

    def judged(self) -> Judged:
        """What is known now."""
        return msgspec.structs.replace(judged_of(self._kept, self._alpha), lag=self._reader.lag())

    def _sample(self) -> None:
        """Remember this moment for pictures; when there are too many, every second one goes."""
        samples, judged = self._kept.samples, judged_of(self._kept, self._alpha)
        if samples and samples[-1].canary_n + samples[-1].champion_n == judged.canary_n + judged.champion_n:
            return
        ratios = {
            one.name: (one.lower, one.ratio, _UNBOUNDED if one.upper is None else one.upper)
            for one in judged.readings
            if one.ratio is not None and one.canary_events + one.champion_events
        }
        means = {
            name: (one.lower, one.difference, one.upper)
            for name, one in judged.intervals.items()
            if one.lower is not None and one.upper is not None
        }
        n = {"canary_n": judged.canary_n, "champion_n": judged.champion_n}
        samples.append(Sample(at_s=round(self._clock(), 1), ratios=ratios, means=means, **n))
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
        began_s = time.monotonic()
        make_directory(self._path.parent)
        draft = self._path.with_suffix(".partial")
        write_whole(self._path, msgspec.json.encode(kept), draft=draft, mode=0o600)
        now_s = time.monotonic()
        self._due_s = now_s + max(_SAVE_S, _SAVE_SHARE * (now_s - began_s))


def judged_of(kept: Kept, alpha: float = MEAN_ALPHA) -> Judged:
    """What is known by what is kept; intervals of means hold at 1 - `alpha`."""
    observer = kept.observer
    evidence = observer.evidence
    canary_n, champion_n = totals(evidence.requests)
    return Judged(
        readings=evidence.readings(),
        intervals=evidence.intervals(alpha),
        canary_n=canary_n,
        champion_n=champion_n,
        left_out=evidence.left_out,
        waiting=len(observer.waiting),
        unwatched=observer.unwatched,
        samples=tuple(kept.samples),
        span_s=(evidence.last_at or 0.0) - (evidence.first_at or 0.0),
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
