"""Work on a log, killed by SIGKILL at each of its steps in a process of its own, then done again by another one.

python kills.py WORK HOME BEFORE      seal or erase in HOME, which becomes BEFORE; a line of JSON for each step

All is imported before the first fork, and nothing but forked processes does anything: a process takes a hundredth of a
second, and libraries with threads never fork.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
import pandas  # noqa: F401  as pyarrow does at its first conversion, which takes as long as all the rest

import penstock.audit.erase_exports
import penstock.audit.erase_sealed
import penstock.audit.sealed_chain  # noqa: F401  these three are loaded when they are needed
from penstock.audit import Wanted
from penstock.audit.proof import prove
from penstock.audit.retention import Bounds, Retention, retain
from penstock.audit.seal import Sealer
from penstock.audit.sealed import read_index
from penstock.control.changes import Who
from penstock.control.control import By
from penstock.controller.assemble import control_plane
from penstock.controller.erasing import Erasing
from penstock.settings import ControlSettings, Settings
from records import AT

Step = Callable[[str], None]
NODE = "mill"


class Outcome(msgspec.Struct, frozen=True):
    """What was found when all was done in the end. `was_killed` is false once the work has no such step."""

    was_killed: bool
    records: int
    gone: int
    problems: list[str]
    files: list[str]
    strays: list[str]
    events: list[str]
    content: bytes
    """Of all segments and exports: what is not compressed."""


def settings_of(home: Path) -> Settings:
    """Those of the scene."""
    return Settings(home=str(home), control=ControlSettings(node=NODE))


def seal(home: Path, step: Step) -> None:
    """All segments, and then everything of the model `churn` goes; as `penstock audit seal`."""
    Sealer(home / "audit", step=step).seal()
    rule = Retention(bounds=Bounds(days=999), models={"churn": Bounds(max_bytes=0)})
    retain(home / "audit", rule, AT + timedelta(days=1), step)


def erase(home: Path, step: Step) -> None:
    """What the log and the exports have of Anna."""
    with control_plane(settings_of(home)) as plane:
        erasing = Erasing(home, plane.control, plane.sealing, node=NODE, step=step)
        erasing.erase(Wanted(keys=frozenset({"anna"})), By(who=Who("ana"), reason="asked"))


WORKS = {"seal": seal, "erase": erase}


def killed_at(step: int) -> Step:
    """A hook that kills this process at the `step`th step."""
    left = iter(range(step))

    def hook(what: str) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def in_a_process(work: Callable[[], object]) -> int:
    """The status with which a forked process ends that does `work`."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def tell(home: Path, was_killed: bool) -> None:
    """Print what there is."""
    audit = home / "audit"
    proof = prove(audit)
    with control_plane(settings_of(home)) as plane:
        events = [event.kind for event in plane.control.events()]
    plain = [path for path in home.rglob("*") if path.suffix in (".jsonl", ".csv", ".erasing")]
    there = sorted(path.relative_to(audit).as_posix() for path in audit.rglob("*.parquet"))
    counted = sorted(file.path for entry in read_index(audit) for file in entry.files if file.gone is None)
    outcome = Outcome(
        was_killed=was_killed,
        records=proof.records,
        gone=proof.gone,
        problems=proof.problems,
        files=counted,
        strays=sorted(set(there) ^ set(counted)),
        events=events,
        content=b"".join(path.read_bytes() for path in plain),
    )
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
    sys.stdout.flush()


def finish(work: Callable[[Path, Step], None], home: Path, was_killed: bool) -> None:
    """What the next one does; and what there is then."""
    work(home, lambda what: None)
    Sealer(home / "audit").tidy()
    tell(home, was_killed)


def main() -> None:
    """The home as it was for each step, until there is no further step; in its place, which the history names."""
    work, home, before = WORKS[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3])
    home.rename(before)
    for step in itertools.count():
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(before, home)
        status = in_a_process(partial(work, home, killed_at(step)))
        was_killed = os.WIFSIGNALED(status)
        if not was_killed and status:
            sys.exit(f"step {step}: exit status {status}")

        if in_a_process(partial(finish, work, home, was_killed)):
            sys.exit(f"step {step}: it could not be done again")
        if not was_killed:
            return


if __name__ == "__main__":
    main()
