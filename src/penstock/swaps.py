"""What this process serves, and its way to what it is to serve: what is new is loaded beside the old, off the loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec

from penstock.errors import PenstockError
from penstock.given import is_given
from penstock.loading import Key, dormant_version, load_version, serve
from penstock.routing import Wanted
from penstock.runtime import Host, RemoteModel, Version
from penstock.server.measures import Measures
from penstock.settings import Settings
from penstock.started import Loaded

T = TypeVar("T")
_Ident: TypeAlias = tuple[str, int, str]
"""A version and its content digest."""

_LOG = logging.getLogger("penstock")
_SWITCH_S: Final = 0.0001
"""How long the thread that loads may keep Python's lock while the loop wants it; Python's own is fifty times that."""
_COLLECT_S: Final = 0.2
_NOT_WANTED: Final = "it is not wanted any more"


class Swaps:
    """Loads what is wanted, one version after the other in a thread, and has the host serve it. On the event loop."""

    def __init__(
        self, wanted: Wanted, settings: Settings, measures: Measures, apart: Sequence[Loaded] | None = None
    ) -> None:
        """`wanted` is served from the start; the versions of `apart` are computed by other processes, and where that is
        None, none is.
        """
        self.revision = wanted.revision
        self.failures: dict[str, str] = {}
        """By `name/version` why what is wanted could not be loaded."""
        self._settings = settings
        self._wanted = self._with_default(wanted)
        self._measures = measures
        self._apart = None if apart is None else _by_key(apart)
        self._host: Host | None = None
        self._loads: dict[_Ident, asyncio.Task[Version]] = {}
        self._fresh: dict[_Ident, Version] = {}  # loaded for what is wanted, and not served yet
        self._ends: dict[Key, socket.socket] = {}  # to processes of versions that are not loaded yet
        self._one = threading.Lock()
        self._collecting: asyncio.TimerHandle | None = None

    @property
    def is_loading(self) -> bool:
        """Whether a thread loads something."""
        return bool(self._loads)

    def begin(self, host: Host) -> None:
        """Have `host` serve what is wanted, before the loop runs. What the command line gave is served whole, or it
        raises as `load_version` and `Host.swap` do.
        """
        self._host, wanted = host, self._wanted
        made, failures = [], {}
        for key in host.missing(wanted.table):
            began_s = time.monotonic()
            try:
                made.append(self._load_here(key))
            except PenstockError as error:
                self._measures.load_failed(*key)
                if is_given(wanted):
                    raise
                failures[_told(key)] = str(error)
            else:
                self._measures.loaded(made[-1], time.monotonic() - began_s)
        if is_given(wanted):
            host.apply(wanted.table, made)
        else:
            self._serve(host, wanted, made, failures)

    async def take_up(self, wanted: Wanted, apart: Sequence[Loaded]) -> bool:
        """Serve `wanted`, as far as it can be loaded; False when a later call has overtaken this one.

        With nothing to load that is done before it waits for anything.
        """
        host = self._require_host()
        wanted = self._wanted = self._with_default(wanted)
        self._apart = _by_key(apart)
        made, failures = [], {}
        for key in host.missing(wanted.table):
            try:
                made.append(await self._made(key))
            except PenstockError as error:
                self._measures.load_failed(*key)
                failures[_told(key)] = str(error)
            if self._wanted is not wanted:
                return False
        self._serve(host, wanted, made, failures)
        self._tidy(wanted)
        return True

    async def load(self, name: str, number: int) -> Version:
        """The version that its first call asks for, loaded and proven. Raises PenstockError."""
        try:
            version = await self._loaded((name, number))
        except PenstockError:
            self._measures.load_failed(name, number)
            raise
        self._fresh.pop((name, number, version.digest), None)  # the host has it now
        return version

    async def attach(self, key: Key, end: socket.socket) -> None:
        """The process of a native version is asked by `end` from now on."""
        fresh = [version for version in self._fresh.values() if (version.name, version.version) == key]
        for version in (*self._require_host().models(), *fresh):
            if isinstance(version, RemoteModel) and (version.name, version.version) == key:
                await version.remote.attach(end)
                return
        self._close(key)
        self._ends[key] = end

    def _with_default(self, wanted: Wanted) -> Wanted:
        """`wanted`, with the default model of this server's settings where they name one."""
        default_model = self._settings.server.default_model
        if default_model is None:
            return wanted
        table = msgspec.structs.replace(wanted.table, default_model=default_model)
        return msgspec.structs.replace(wanted, table=table)

    def _require_host(self) -> Host:
        if self._host is None:
            raise PenstockError("nothing is served yet")
        return self._host

    def _serve(self, host: Host, wanted: Wanted, made: list[Version], failures: dict[str, str]) -> None:
        self.failures = serve(host, wanted.table, made, failures)
        self.revision = wanted.revision
        host.tell_failures({**wanted.failures, **self.failures})
        for told, why in self.failures.items():
            _LOG.error("%s cannot be served: %s", told, why)

    def _load_here(self, key: Key) -> Version:
        wanted, settings = self._wanted, self._settings
        if wanted.table.models[key[0]].options.is_lazy:
            return dormant_version(wanted, key, settings)
        return load_version(wanted, key, settings, self._apart)

    async def _made(self, key: Key) -> Version:
        """The version as the host is to have it next."""
        wanted, settings = self._wanted, self._settings
        if wanted.table.models[key[0]].options.is_lazy:
            return await self._apart_from_loop(lambda: dormant_version(wanted, key, settings))
        return await self._loaded(key)

    async def _loaded(self, key: Key) -> Version:
        digest = self._wanted.table.digests().get(key)
        if digest is None:
            raise PenstockError(_NOT_WANTED)
        ident = (*key, digest)
        if ident in self._fresh:
            return self._fresh[ident]
        load = self._loads.get(ident)
        if load is None:
            load = self._loads[ident] = asyncio.get_running_loop().create_task(self._load(key, ident))
            load.add_done_callback(lambda done: self._ended(ident, done))
        return await asyncio.shield(load)

    async def _load(self, key: Key, ident: _Ident) -> Version:
        began_s = time.monotonic()
        wanted, settings, apart = self._wanted, self._settings, self._apart

        def work() -> Version:
            if not self._is_wanted(ident):
                raise PenstockError(_NOT_WANTED)
            return load_version(wanted, key, settings, apart)

        version = await self._apart_from_loop(work)
        if self._is_wanted(ident):
            self._fresh[ident] = version
        end = self._ends.pop(key, None)
        if isinstance(version, RemoteModel) and end is not None:
            await version.remote.attach(end)
        self._measures.loaded(version, time.monotonic() - began_s)
        return version

    def _is_wanted(self, ident: _Ident) -> bool:
        return self._wanted.table.digests().get(ident[:2]) == ident[2]

    def _ended(self, ident: _Ident, load: asyncio.Task[Version]) -> None:
        self._loads.pop(ident, None)
        if not load.cancelled():
            load.exception()  # whoever waits has it; nobody may wait any more

    async def _apart_from_loop(self, work: Callable[[], T]) -> T:
        """What `work` gives, in a thread of its own, which the end of the process does not wait for. One at a time."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, error: Exception | None) -> None:
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(value)  # type: ignore[arg-type]  # of T where there is no error

        def run() -> None:
            value, failure = None, None
            with self._one, _quick_switches():
                try:
                    value = work()
                except PenstockError as error:
                    failure = error
                except Exception as error:  # the edge of the thread: a library's own error must reach the operator
                    failure = PenstockError(f"{type(error).__name__}: {error}")
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(settle, value, failure)

        threading.Thread(target=run, name="load", daemon=True).start()
        return await done

    def _tidy(self, wanted: Wanted) -> None:
        """Let go of what was for other tables, and see that what was freed goes from memory."""
        self._fresh.clear()
        for key in self._ends.keys() - wanted.table.digests().keys():
            self._close(key)
        if self._collecting is None:
            self._collecting = asyncio.get_running_loop().call_later(_COLLECT_S, self._collect)

    def _collect(self) -> None:
        """Versions hold types of their own, which are freed in circles; the usual collections are rare (`app.py`)."""
        self._collecting = None
        gc.collect()

    def _close(self, key: Key) -> None:
        end = self._ends.pop(key, None)
        if end is not None:
            end.close()


@contextlib.contextmanager
def _quick_switches() -> Iterator[None]:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


def _told(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


def _by_key(apart: Sequence[Loaded]) -> dict[Key, Loaded]:
    return {(loaded.name, loaded.version): loaded for loaded in apart}
