"""Keeps a process for each version that shadows: starts it, starts it again when it dies, ends it with its alias.

No call waits for a shadow, and no worker knows of it. What it found is in a file (`jobs/shadow_state.py`), which is
there also while nothing runs.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from penstock.audit.follow import Follower
from penstock.audit.readers import Readers
from penstock.control.answers import ShadowAnswer
from penstock.control.state import ModelState, State
from penstock.controller.shadow_process import Task
from penstock.errors import PenstockError
from penstock.jobs.shadow_log import SHADOW_WORKER
from penstock.jobs.shadow_state import Shadowed, ShadowState, read_state
from penstock.routing import CHAMPION, SHADOW
from penstock.settings import Settings, environment_for_child
from penstock.telemetry import FamilyState, Registry
from penstock.workers.spawn import BackOff, fate_of

_LOG = logging.getLogger("penstock")
_LOOK_S: Final = 1.0
_END_S: Final = 5.0
_REASON_BYTES: Final = 2000
_LABELS: Final = ("model", "version")
_COUNTERS: Final = {
    "penstock_shadow_pairs_total": "Rows that champion and shadow have answered.",
    "penstock_shadow_errors_total": "Rows on which a shadow failed, and calls that killed its process.",
    "penstock_shadow_skipped_total": "Records that a shadow passed unread, being too far behind.",
}
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


class One:
    """The process of one shadow, and those that come after it. One thread's."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.why: str | None = None
        """Why it does not run; None while it does."""
        self.deaths = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = self._again_s = 0.0
        self._rest = BackOff()

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return None if self._process is None else self._process.pid

    def look(self) -> None:
        """Start it where it does not run and is not resting."""
        now_s = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process, now_s)
        if self._process is None and now_s >= self._again_s:
            self._start(now_s)

    def end(self) -> None:
        """End it, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self._close(self._process)
            self._process = None

    def _start(self, now_s: float) -> None:
        # In the group of this process: the kernel weighs groups against each other, and this one is to give way.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "penstock.controller.shadow_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment_for_child(**dict.fromkeys(_THREADS, "1")),
        )
        self._began_s, self.why = now_s, None
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it is dead already: the next look says so
                self._process.stdin.write(msgspec.json.encode(self.task) + b"\n")
                self._process.stdin.flush()

    def _ended(self, process: subprocess.Popen[bytes], now_s: float) -> None:
        self.deaths += 1
        said = b"" if process.stdout is None else process.stdout.read(_REASON_BYTES)
        self.why = said.decode("utf-8", "replace") or f"its process {fate_of(process)}"
        of = self.task.of
        rest_s = self._rest.after_s(now_s - self._began_s)
        _LOG.warning("%s: the shadow, version %d: %s; again in %g s", of.model, of.version, self.why, rest_s)
        self._again_s = now_s + rest_s
        self._close(process)
        self._process = None

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what was not yet written has nobody to go to
                    pipe.close()


class Shadows:
    """All shadows of a machine. `run` in a thread of its own, with which they all end; the rest from any.

    `state` reads the state; `path` says where a version lies that was fetched and tried, None where it was not.
    """

    def __init__(self, settings: Settings, state: Callable[[], State], path: Callable[[str, int], str | None]) -> None:
        self._settings = settings
        self._home = Path(settings.home)
        self._state, self._path = state, path
        self._readers = Readers(self._home / "audit")
        self._ones: dict[str, One] = {}
        self._ending = threading.Event()
        self._told = ""
        self._is_counting = False
        self.on_counted: Callable[[list[FamilyState]], object] | None = None
        """Gets what the shadows have counted, at each look."""

    def run(self) -> None:
        """Look now and then until `stop`, and then end them all."""
        try:
            while not self._ending.is_set():
                try:
                    self._look(self._state())
                except PenstockError as error:  # the state cannot be read: what shadows goes on
                    self._tell(str(error))
                except Exception as error:  # the edge of a thread that must go on
                    self._tell(f"{error!r}")
                self._ending.wait(_LOOK_S)
        finally:
            for one in self._ones.values():
                one.end()

    def stop(self) -> None:
        """End them all, soon."""
        self._ending.set()

    def answer(self, model: ModelState) -> ShadowAnswer | None:
        """What is known of a model's shadow; None where it has none."""
        one = self._ones.get(model.name)
        return answer_of(self._home, model, None if one is None else (one.why, one.deaths))

    def _look(self, state: State) -> None:
        wanted = wanted_shadows(state)
        for name in self._ones.keys() - wanted.keys():
            self._ones.pop(name).end()
        self._readers.keep_only(SHADOW, {of.reader for of in wanted.values()})
        for name, of in wanted.items():
            self._register(of)
            path = self._path(name, of.version)
            if path is None:
                continue
            task = Task(self._settings, of, path, state.models[name].config.options.decision)
            if name in self._ones and self._ones[name].task != task:
                self._ones.pop(name).end()
            if name not in self._ones:
                self._ones[name] = One(task)
            self._ones[name].look()
        if self.on_counted is not None and (wanted or self._is_counting):
            self.on_counted(counted(self._home, wanted.values()))
        self._is_counting = bool(wanted)
        self._told = ""

    def _register(self, of: Shadowed) -> None:
        """From now on the log waits for it, which begins with the alias, while its bundle is still being tried."""
        if self._readers.position(of.reader) is None:
            self._readers.save(of.reader, Follower(self._home / "audit", workers=range(SHADOW_WORKER)).since(of.since))

    def _tell(self, what: str) -> None:
        if what != self._told:
            self._told = what
            _LOG.error("shadows: %s; those that run go on", what)


def wanted_shadows(state: State) -> dict[str, Shadowed]:
    """Which version is to shadow which, by model: pure. None where it is the champion itself."""
    found = {}
    for name, model in state.models.items():
        version, champion = model.aliases.get(SHADOW), model.aliases.get(CHAMPION)
        if version is None or champion is None or version == champion:
            continue
        found[name] = Shadowed(
            model=name,
            version=version,
            digest=model.versions[version].published.digest,
            champion=champion,
            since=model.moved[SHADOW].at,
        )
    return found


def answer_of(home: Path, model: ModelState, running: tuple[str | None, int] | None) -> ShadowAnswer | None:
    """The shadow of a model: why its process does not run (None: it does) and how often it died; None: none is kept."""
    of = wanted_shadows(State({model.name: model})).get(model.name)
    if of is None:
        return None
    why, deaths = running if running is not None else (None, 0)
    state = "stopped" if running is None else "running" if why is None else "restarting"
    kept, problem = _kept(home, of)
    shown = kept if kept is not None and kept.of == of else None
    told = ShadowAnswer(version=of.version, champion=of.champion, state=state, why=why or problem, deaths=deaths)
    if shown is None:
        return told
    return msgspec.structs.replace(
        told,
        pairs=shown.pairs,
        disagreement=shown.disagreement,
        errors=shown.errors,
        crashed=shown.crashed,
        unscorable=shown.unscorable,
        skipped=shown.skipped,
        lag_s=shown.lag_s,
        lag_records=shown.lag_records,
        last_failure=shown.last_failure,
        at=shown.at,
    )


def counted(home: Path, wanted: Iterable[Shadowed]) -> list[FamilyState]:
    """The metrics of some shadows, out of what they keep."""
    registry = Registry()
    pairs, errors, skipped = (registry.counter(name, text, _LABELS) for name, text in _COUNTERS.items())
    lag = registry.gauge("penstock_shadow_lag_seconds", "How old the last call was when a shadow scored it.", _LABELS)
    for of in wanted:
        state, _ = _kept(home, of)
        if state is not None and state.of == of:
            labels = {"model": of.model, "version": str(of.version)}
            pairs.child(**labels).inc(state.pairs)
            errors.child(**labels).inc(state.errors)
            skipped.child(**labels).inc(state.skipped)
            lag.child(**labels).set(state.lag_s)
    return registry.state()


def _kept(home: Path, of: Shadowed) -> tuple[ShadowState | None, str | None]:
    try:
        return read_state(home, of.model, of.version), None
    except PenstockError as error:
        return None, str(error)
