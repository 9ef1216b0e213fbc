"""The supervisor's side of native models: their processes are started, joined to every worker, watched and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from penstock.bundle.manifest import manifest_of
from penstock.errors import BundleRefused
from penstock.routing import Wanted
from penstock.settings import Settings
from penstock.started import Loaded
from penstock.telemetry import FamilyState
from penstock.workers import channel
from penstock.workers.channel import Attach, Attend, Beat, Begin, Failed, Leave, Load, Up
from penstock.workers.spawn import BackOff, Channelled, fate_of, spawn

_LOG = logging.getLogger("penstock")
_START_S: Final = 120.0
_HUNG_S: Final = 30.0
_LOOK_S: Final = 0.01
# pyarrow, which pandas imports where it is installed, would start a thread, and with it nothing can be forked safely.
_ONE_THREAD: Final = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}


class Native(msgspec.Struct, frozen=True):
    """A native version to be computed by a process of its own; `number` tells several of one version apart."""

    bundle: Path
    name: str
    version: int
    number: int

    @property
    def label(self) -> str:
        """As metrics and log lines call the process."""
        return f"native-{self.name}-{self.version}" + (f"-{self.number}" if self.number else "")


class Keeper:
    """Keeps the process of one native version: loads it, forks what computes, and both again when they end."""

    def __init__(self, native: Native, settings: Settings, tell: Callable[[Keeper, str | None], None]) -> None:
        """`tell` hears of each time it is up, and of why it cannot be loaded."""
        self.native = native
        self.loaded: Loaded | None = None
        self.ended: list[subprocess.Popen[bytes]] = []  # to be reaped
        self.counted: list[FamilyState] = []
        self.restarts = 0
        self.was_up = False
        self.failure: str | None = None  # why it never was
        self._settings = settings
        self._tell = tell
        self._limit_s = settings.server.deadline_ms / 1e3 + settings.native.grace_s
        self._source: Channelled | None = None  # has loaded, and forks
        self._process: Channelled | None = None  # computes
        self._loader: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._is_over = self.has_failed = False
        self._source_rest, self._process_rest = BackOff(), BackOff()
        self._loop = asyncio.get_running_loop()

    @property
    def is_up(self) -> bool:
        """Whether a process computes."""
        return self._process is not None and self._pid != 0

    def load(self) -> None:
        """Start the process that loads."""
        if self._is_over or self._source is not None:
            return
        self.has_failed = False
        self._loader, end = spawn("penstock.workers.native", threads=1, **_ONE_THREAD)
        self._source = Channelled(end)
        self._loop.add_reader(end, self._hear_source, self._source)
        native = self.native
        channel.send(end, Load(self._settings, str(native.bundle), native.version, native.label, self._limit_s))

    def join(self, worker: socket.socket) -> None:
        """Give the process and the worker at the end of this channel a socket to each other."""
        if self._process is None or self.loaded is None:
            return
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with near, far:
            channel.send(self._process.end, Attend(), far)
            channel.send(worker, Attach(self.loaded.name, self.loaded.version), near)

    def leave(self) -> None:
        """Let the process go once the workers have left it."""
        self._is_over = True
        if self._process is not None:
            channel.send(self._process.end, Leave())
        if self._source is not None:
            self._drop_source(self._source)

    def end(self) -> None:
        """Let go of the process at once: it ends when its channel does."""
        self._is_over = True
        for one in (self._process, self._source):
            if one is not None:
                self._loop.remove_reader(one.end)
                one.end.close()
        self._process = self._source = None
        if self._loader is not None:
            self.ended.append(self._loader)
            self._loader = None

    def kill(self) -> None:
        """End what still runs, without waiting."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        for process in self.processes():
            process.kill()

    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Those to be waited for."""
        return [*self.ended, *([] if self._loader is None else [self._loader])]

    def watch(self, now_s: float) -> None:
        """End what has been silent for long."""
        self.ended = [process for process in self.ended if process.poll() is None]
        source, loader = self._source, self._loader
        if source and loader and self.loaded is None and now_s - source.heard_s > _START_S:
            _LOG.error("%s has not loaded within %.0f s: ending it", self.native.label, _START_S)
            loader.kill()
        allowed_s = max(_HUNG_S, self._limit_s + 1.0)
        if self._process is not None and now_s - self._process.heard_s > allowed_s:
            _LOG.error("%s has been silent for %.0f s: ending it", self.native.label, allowed_s)
            self.kill()

    def _hear_source(self, source: Channelled) -> None:
        try:
            message = _received(source)
        except BlockingIOError:
            return
        match message:
            case None:
                if self.loaded is None and self._loader is not None and not self.has_failed:
                    fate = fate_of(self._loader)
                    self._fail(f"Expected {self.native.label} to load, but it {fate}: see above for why")
                self._drop_source(source)
                if not self._is_over:
                    self._loop.call_later(self._source_rest.after_s(source.lived_s), self.load)
            case Loaded():
                self._note(message)
            case Failed():
                self._fail(message.message)

    def _fail(self, why: str) -> None:
        self.has_failed = True
        self._tell(self, why)

    def _drop_source(self, source: Channelled) -> None:
        self._loop.remove_reader(source.end)
        source.end.close()
        self._source = None
        if self._loader is not None:
            self.ended.append(self._loader)
            self._loader = None

    def _note(self, loaded: Loaded) -> None:
        if self.loaded is not None and loaded.digest != self.loaded.digest:
            _LOG.error("%s: the bundle was changed while it is served: start the server again", self.native.label)
            self._is_over = True
            if self._source is not None:
                self._drop_source(self._source)
            return
        self.loaded = loaded
        self._begin()

    def _begin(self) -> None:
        if self._is_over or self._process is not None or self._source is None:
            return  # without a source, the one that is being started begins once it has loaded
        ours, theirs = channel.pair()
        with theirs:
            channel.send(self._source.end, Begin(), theirs)
        self._process = Channelled(ours)
        self._loop.add_reader(ours, self._hear, self._process)

    def _hear(self, process: Channelled) -> None:
        try:
            message = _received(process)
        except BlockingIOError:
            return
        match message:
            case None:
                self._bury(process)
            case Up():
                self._pid, self.was_up = message.pid, True
                self._tell(self, None)
            case Beat():
                self.counted = message.counted

    def _bury(self, process: Channelled) -> None:
        self._loop.remove_reader(process.end)
        process.end.close()
        was_up = self.is_up
        self._process, self._pid, self.counted = None, 0, []
        if self._is_over:
            return
        if not was_up:
            self._fail(f"Expected {self.native.label} to compute, but its process ended before it could")
        rest_s = self._process_rest.after_s(process.lived_s)
        _LOG.error("%s ended; another starts in %.1f s", self.native.label, rest_s)
        self.restarts += 1
        self._loop.call_later(rest_s, self._begin)


class Natives:
    """The processes of all native versions."""

    def __init__(self, settings: Settings, *, workers: Callable[[], Iterable[tuple[int, socket.socket]]]) -> None:
        """`workers` are the numbers and channels of those that ask."""
        self._settings = settings
        self._workers = workers
        self._keepers: list[Keeper] = []
        self._leaving: list[Keeper] = []
        self._is_native: dict[tuple[Path, str], bool] = {}  # by path and digest, of what was wanted last

    async def take_up(self, wanted: Wanted) -> dict[str, str]:
        """Have what `wanted` needs computed, beside what is there; why it cannot be, by `name/version`.

        Several may be under way.
        """
        natives = self._natives_of(wanted)
        there = {keeper.native for keeper in self._keepers}
        for native in natives:
            if native not in there:
                keeper = Keeper(native, self._settings, self._hear)
                self._keepers.append(keeper)
                keeper.load()
        needed = [keeper for keeper in self._keepers if keeper.native in natives]
        while not all(keeper.was_up or keeper.failure or keeper not in self._keepers for keeper in needed):
            await asyncio.sleep(_LOOK_S)
        failures = {}
        for keeper in needed:
            if keeper.failure is not None:
                failures[f"{keeper.native.name}/{keeper.native.version}"] = keeper.failure
                self._drop(keeper)
        return failures

    def let_go(self, wanted: Wanted) -> None:
        """End what `wanted` does not need; workers that still ask are answered."""
        for keeper in list(self._keepers):
            native = keeper.native
            if wanted.paths.get(native.name, {}).get(native.version) == str(native.bundle):
                continue
            if keeper.is_up:
                self._keepers.remove(keeper)
                self._leaving.append(keeper)
                keeper.leave()
            else:
                self._drop(keeper)

    def _natives_of(self, wanted: Wanted) -> list[Native]:
        """The processes that what is wanted needs; not those of bundles that cannot be read, which workers tell."""
        known, self._is_native = self._is_native, {}
        found = []
        for (name, version), digest in wanted.table.digests().items():
            path = wanted.path(name, version)
            is_native = known.get((path, digest))
            if is_native is None:
                try:
                    is_native = manifest_of(path).flavour == "native"
                except BundleRefused:
                    continue
            self._is_native[path, digest] = is_native
            if is_native:
                found += [Native(path, name, version, number) for number in range(self._settings.native.processes)]
        return found

    def _drop(self, keeper: Keeper) -> None:
        """End what nobody has asked."""
        if keeper in self._keepers:
            self._keepers.remove(keeper)
            self._leaving.append(keeper)
            keeper.end()
            keeper.kill()

    def loaded(self) -> list[Loaded]:
        """What they have loaded, as workers are told."""
        return [keeper.loaded for keeper in self._keepers if keeper.loaded is not None and not keeper.native.number]

    def join(self, number: int, worker: socket.socket) -> None:
        """Let a new worker ask: of several processes of a version, the one that its number falls to."""
        for keeper in self._keepers:
            if number % self._settings.native.processes == keeper.native.number:
                keeper.join(worker)

    def counted(self) -> list[FamilyState]:
        """What they have counted."""
        return [family for keeper in self._keepers for family in keeper.counted]

    def restarts(self) -> dict[str, int]:
        """How often each was started again, by its label."""
        return {keeper.native.label: keeper.restarts for keeper in self._keepers if keeper.restarts}

    def watch(self, now_s: float) -> None:
        """End what hangs, and forget what has left."""
        for keeper in (*self._keepers, *self._leaving):
            keeper.watch(now_s)
        self._leaving = [keeper for keeper in self._leaving if keeper.is_up or keeper.processes()]

    async def roll(self) -> None:
        """Replace them one at a time: the new one is asked before the old one leaves."""
        for old in list(self._keepers):
            if old not in self._keepers:  # let go meanwhile
                continue
            fresh = Keeper(old.native, self._settings, self._hear)
            fresh.restarts = old.restarts
            fresh.load()
            until_s = time.monotonic() + _START_S
            while not (fresh.is_up or fresh.has_failed) and time.monotonic() < until_s:
                await asyncio.sleep(0.02)
            if not fresh.is_up:
                _LOG.error("%s is not replaced: the new one did not start", old.native.label)
                fresh.end()
                fresh.kill()
                return
            if old not in self._keepers:
                fresh.end()
                fresh.kill()
                continue
            self._keepers[self._keepers.index(old)] = fresh
            self._join_workers(fresh)
            old.leave()
            self._leaving.append(old)

    def end(self) -> None:
        """Let all go, once no worker asks any more."""
        for keeper in (*self._keepers, *self._leaving):
            keeper.end()

    def processes(self) -> list[subprocess.Popen[bytes]]:
        """Those to be waited for."""
        return [process for keeper in (*self._keepers, *self._leaving) for process in keeper.processes()]

    def _hear(self, keeper: Keeper, failure: str | None) -> None:
        if failure is None:
            if keeper in self._keepers:
                self._join_workers(keeper)
            return
        if keeper.was_up or keeper not in self._keepers:
            _LOG.error("%s cannot be loaded: %s", keeper.native.label, failure)
        else:
            keeper.failure = keeper.failure or failure

    def _join_workers(self, keeper: Keeper) -> None:
        for number, worker in self._workers():
            if number % self._settings.native.processes == keeper.native.number:
                keeper.join(worker)


def _received(one: Channelled) -> channel.ToSupervisor | None:
    """The next message; None at the end of the process. Raises BlockingIOError when nothing is there."""
    try:
        message = channel.received_by_supervisor(one.end)
    except BlockingIOError:
        raise
    except (OSError, msgspec.DecodeError):
        return None
    one.heard_s = time.monotonic()
    return message
