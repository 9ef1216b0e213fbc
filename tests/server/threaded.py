"""A whole server in a thread of the test's own process, whose models a test can swap: what it serves is at hand."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import uvicorn

from penstock.address import listen, reserved_grpc_port, url_of
from penstock.app import Assembled, assembled
from penstock.bundle.manifest import manifest_of
from penstock.routing import ModelOptions, Routes, RoutingTable, Wanted
from penstock.settings import Settings
from running import STOP_S, Running

T = TypeVar("T")
_START_S = 60.0


class Threaded(Running):
    """A server in a thread; `parts.host` is used by `on_loop` only."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = ""
        self.grpc = ""
        self.parts: Assembled
        self.loop: asyncio.AbstractEventLoop

    def on_loop(self, work: Callable[[], T]) -> T:
        """What `work` gives, done on the server's event loop."""

        async def done() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(STOP_S)


def wanted_of(bundles: dict[str, Path], options: ModelOptions) -> Wanted:
    """Each bundle as version 1 and champion of its model, served with `options`."""
    routes = {
        name: Routes({1: manifest_of(path).content_digest}, {"champion": 1}, options) for name, path in bundles.items()
    }
    return Wanted(1, RoutingTable(routes), {name: {1: str(path)} for name, path in bundles.items()})


@contextlib.contextmanager
def threaded(home: Path, wanted: Wanted, changes: dict[str, dict[str, object]] | None = None) -> Iterator[Threaded]:
    """A server of `wanted` on free ports, gRPC too, with `changes` of the settings' sections, while the block runs."""
    sections = {"server": {"port": 0, "grpc_port": 0}}
    for name, values in (changes or {}).items():
        sections[name] = {**sections.get(name, {}), **values}  # type: ignore[dict-item]
    settings = msgspec.convert({"home": str(home), **sections}, Settings)
    server = Threaded(home)
    ready, stop = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            with (
                reserved_grpc_port(settings) as ours,
                assembled(ours, wanted) as parts,
                listen(ours.server) as listener,
            ):
                server.parts, server.url = parts, url_of(listener)
                server.grpc = f"127.0.0.1:{ours.server.grpc_port}"
                parts.runner.run(_serve(server, listener, ready, stop))
        except BaseException as error:
            failed.append(error)
            ready.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(_START_S)
        assert [] == failed
        yield server
    finally:
        stop.set()
        thread.join(STOP_S)
        gc.unfreeze()  # a server leaves what it loaded out of collections
        gc.set_threshold(700, 10, 10)
    assert [] == failed


async def _serve(server: Threaded, listener: object, ready: threading.Event, stop: threading.Event) -> None:
    parts = server.parts
    server.loop = asyncio.get_running_loop()
    web = uvicorn.Server(parts.config)
    async with parts.log:
        assert parts.grpc is not None
        await parts.grpc.start()
        serving = server.loop.create_task(web.serve(sockets=[listener]))  # type: ignore[list-item]
        while not web.started:
            await asyncio.sleep(0.001)
        ready.set()
        await asyncio.to_thread(stop.wait)
        web.should_exit = True
        await asyncio.gather(serving, parts.grpc.stop())
