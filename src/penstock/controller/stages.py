"""The stages of a rollout before it gets traffic: a replay, run as a process of its own; the shadow's pairs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from penstock.control.rollouts import RolloutState
from penstock.control.state import ModelState
from penstock.controller.judging import path_of
from penstock.durable import make_directory
from penstock.errors import SegmentError
from penstock.jobs.shadow_state import read_state
from penstock.rollout.plan import Findings
from penstock.settings import environment_for_child

_SHOWN: Final = 300
_NICE: Final = 10


class StagesHere:
    """`Stages` on this machine, for one thread. A replay that is killed is begun again, and goes on where it was."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._replays: dict[str, subprocess.Popen[bytes]] = {}

    def findings(self, model: ModelState, rollout: RolloutState) -> Findings:
        """What replay or shadow, whichever the stage is, has found so far."""
        return self._replay(model.name, rollout) if rollout.stage == "replay" else self._shadow(model.name, rollout)

    def tidy(self, running: set[str]) -> None:
        """End the replays of all other rollouts."""
        for rollout_id in self._replays.keys() - running:
            process = self._replays.pop(rollout_id)
            process.kill()
            process.wait()

    def _shadow(self, name: str, rollout: RolloutState) -> Findings:
        try:
            state = read_state(self._home, name, rollout.version)
        except SegmentError as error:
            return Findings(failure=str(error))
        if state is None or state.of.champion != rollout.champion:
            return Findings()
        return Findings(
            rows=state.pairs + state.errors,
            errors=state.errors,
            flips=state.flips,
            unscorable=state.unscorable,
        )

    def _replay(self, name: str, rollout: RolloutState) -> Findings:
        result = path_of(self._home, rollout.id).with_suffix(".replay")
        process = self._replays.get(rollout.id)
        if process is None:
            with contextlib.suppress(FileNotFoundError):
                return _found(result.read_bytes())
            make_directory(result.parent)
            self._replays[rollout.id] = _started(self._home, name, rollout, result)
            return Findings()
        if process.poll() is None:
            return Findings()
        del self._replays[rollout.id]
        if process.returncode < 0:
            return Findings()  # killed: the next look begins it again
        partial, said = result.with_suffix(".partial"), result.with_suffix(".said")
        if process.returncode:
            last = said.read_text(errors="replace").strip()[-_SHOWN:]
            return Findings(failure=f"the replay failed: {last or f'exit {process.returncode}'}. `resume` tries again")
        partial.rename(result)
        return _found(result.read_bytes())


def _started(home: Path, name: str, rollout: RolloutState, result: Path) -> subprocess.Popen[bytes]:
    options = rollout.plan.replay
    if options is None:
        raise ValueError(f"the rollout {rollout.id} has no replay")
    asked = ["--on", str(rollout.version), "--since", f"{options.days:g}d", "--rows", str(options.rows)]
    command = ["nice", "-n", str(_NICE), sys.executable, "-m", "penstock", "audit", "replay", name]
    with result.with_suffix(".partial").open("wb") as out, result.with_suffix(".said").open("wb") as said:
        return subprocess.Popen(
            [*command, *asked, "--home", str(home), "--json"], stdout=out, stderr=said, env=environment_for_child()
        )


def _found(text: bytes) -> Findings:
    try:
        told: dict[str, Any] = msgspec.json.decode(text)
        return Findings(rows=told["rows"], errors=told["errors"] + told["refused"], flips=told["flips"], is_done=True)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        return Findings(failure=f"the result of the replay cannot be read: {error!r}")
