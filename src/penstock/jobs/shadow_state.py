"""How far a shadow is, and what its pairs say: one file for each, replaced whole, which the controller reads, too."""

from __future__ import annotations

import glob
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.position import Position
from penstock.audit.readers import reader_name
from penstock.durable import make_directory, write_whole
from penstock.errors import SegmentError
from penstock.jobs.attempts import Suspects
from penstock.jobs.comparison import ComparisonState
from penstock.routing import SHADOW

SHADOWS: Final = "shadows"


class Shadowed(msgspec.Struct, frozen=True, kw_only=True):
    """Who shadows whom: version `version` of `model` the version `champion`, calls that came from `since` on."""

    model: str
    version: int
    digest: str
    champion: int
    since: datetime

    @property
    def reader(self) -> str:
        """Under which name it is registered as a reader of the log."""
        return reader_name(SHADOW, f"{self.model}-{self.version}")


class ShadowState(msgspec.Struct, kw_only=True):
    """What is kept of a shadow. Counts are of rows, but for `crashed` (calls) and `skipped` (records of the log of
    whatever model and kind, which it passed unread because it was too far behind).

    `position` is how far in the workers' log; `written` how far in what shadows wrote: what is behind the one and the
    other is in `comparison`, once. `lag_records` and `lag_s` are as of `at`.
    """

    of: Shadowed
    began_at: datetime
    at: datetime
    position: Position
    written: Position
    comparison: ComparisonState = ComparisonState()
    suspects: Suspects = Suspects()
    crashed: int = 0
    skipped: int = 0
    last_failure: str | None = None
    lag_records: int = 0
    lag_s: float = 0.0

    @property
    def pairs(self) -> int:
        """Rows that both have answered."""
        return self.comparison.pairs

    @property
    def errors(self) -> int:
        """Rows that the champion answered and the shadow refused or failed on, and calls that killed its process."""
        return self.comparison.tally.failed + self.comparison.tally.refused + self.crashed

    @property
    def flips(self) -> int:
        """Pairs of different labels."""
        return sum(n for row, cells in self.comparison.flips.items() for name, n in cells.items() if name != row)

    @property
    def disagreement(self) -> float | None:
        """The share of pairs with different labels; None without any that have one."""
        return self.flips / self.pairs if self.comparison.flips else None

    @property
    def unscorable(self) -> int:
        """Rows that could not be scored: masked or missing fields, or nothing kept of them."""
        tally = self.comparison.tally
        return tally.lacking + tally.without_features + tally.without_answer


def stem_of(home: Path, model: str, version: int, ending: str) -> Path:
    """A file of a shadow; the state ends in `.json`."""
    return home / SHADOWS / f"{model}-{version}{ending}"


def shadows_of(home: Path, model: str) -> list[int]:
    """The versions of a model of which a state is kept, the one that was saved last first."""
    found = {
        path: path.stem.removeprefix(f"{model}-") for path in (home / SHADOWS).glob(f"{glob.escape(model)}-*.json")
    }
    kept = [path for path, number in found.items() if number.isdecimal()]
    return [int(found[path]) for path in sorted(kept, key=lambda path: path.stat().st_mtime, reverse=True)]


def make_folder(home: Path) -> None:
    """Make the folder of such files. Raises SegmentError."""
    try:
        make_directory(home / SHADOWS)
    except OSError as error:
        raise SegmentError(f"Expected to make {home / SHADOWS}, but: {error.strerror}") from error


def read_state(home: Path, model: str, version: int) -> ShadowState | None:
    """What was kept; None where there is nothing. Raises SegmentError for a file that is none of ours."""
    path = stem_of(home, model, version, ".json")
    try:
        return msgspec.json.decode(path.read_bytes(), type=ShadowState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SegmentError(
            f"Expected the state of a shadow at {path}, but: {error}; remove it to begin anew"
        ) from error


def write_state(home: Path, state: ShadowState) -> None:
    """Replace the file at once and durably. Raises SegmentError; it is then as it was before."""
    path = stem_of(home, state.of.model, state.of.version, ".json")
    try:
        write_whole(path, msgspec.json.encode(state), draft=path.with_suffix(".partial"), mode=0o600)
    except OSError as error:
        raise SegmentError(f"Expected to save the state of a shadow to {path}, but: {error.strerror}") from error
