"""Builds the object graph of a server, starts it and stops it: stopping is starting in reverse, by one exit stack."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import logging
import signal
import socket
import time
from asyncio import Runner
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import uvicorn
import uvloop

from penstock.audit import AuditLog, recover
from penstock.bundle.bundle import Bundle
from penstock.errors import SettingsError
from penstock.runtime import Host, Model
from penstock.server.http.asgi import HttpApp
from penstock.server.http.connection import Http1
from penstock.server.http.cors import Cors
from penstock.server.http.lane import Lane
from penstock.server.http.pages import Pages
from penstock.server.http.predictions import Predictions
from penstock.server.measures import Measures
from penstock.server.predict import Predict
from penstock.settings import ServerSettings, Settings
from penstock.telemetry import Registry

_LOG = logging.getLogger("penstock")
_BACKLOG = 2048


class Started(msgspec.Struct, frozen=True):
    """A server that answers: where, what it serves, and where its records go."""

    host: str
    port: int
    models: list[Model]
    segment: Path

    @property
    def url(self) -> str:
        """The address of the data port."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def serve(settings: Settings, bundles: Sequence[Path], *, on_start: Callable[[Started], None]) -> None:
    """Serve `bundles` until SIGTERM or SIGINT. Blocks.

    Several bundles of one name become its versions 1, 2, … in the given order; the first is the champion. Raises
    SettingsError, BundleRefused, MissingExtra, SegmentError.
    """
    require_safe_address(settings.server)
    registry = Registry()
    measures = Measures(registry)
    models = load_models(bundles, settings, measures)
    audit = Path(settings.home) / "audit"
    for repair in recover(audit):
        if repair.broken is not None:
            _LOG.error("audit: %s is broken and was left as it is: %s", repair.path, repair.broken)
        elif repair.cut_bytes:
            _LOG.warning("audit: cut a torn tail of %d bytes off %s", repair.cut_bytes, repair.path)
    with contextlib.ExitStack() as stack:
        host = stack.enter_context(
            contextlib.closing(Host(models, default_model=settings.server.default_model, on_run=measures.ran))
        )
        _require_default_model(settings.server, host)
        listener = stack.enter_context(_listen(settings.server))
        runner = stack.enter_context(Runner(loop_factory=uvloop.new_event_loop))
        log = AuditLog(audit, rule=settings.audit.on_failure, segment_bytes=settings.audit.segment_bytes,
                       registry=registry)  # fmt: skip
        predict = Predict(host, log, measures=measures, on_bug=_log_bug, max_rows=settings.server.max_rows)
        config = _uvicorn_config(settings, predict, Pages(host, registry, info=_info(settings)))

        def started() -> None:
            address = listener.getsockname()
            on_start(Started(address[0], address[1], models, log.path))

        _calm_collector()
        runner.run(_serve_until_stopped(_Server(config, started), log, listener))


def load_models(bundles: Sequence[Path], settings: Settings, measures: Measures | None = None) -> list[Model]:
    """Open, verify, load and prove each bundle, in order. Raises BundleRefused and MissingExtra."""
    models: list[Model] = []
    for path in bundles:
        began_s = time.monotonic()
        bundle = Bundle.open(path)
        version = 1 + sum(model.name == bundle.manifest.name for model in models)
        model = Model.load(
            bundle,
            version=version,
            trusted=settings.sklearn.trusted,
            allow_version_skew=settings.native.allow_version_skew,
            max_text_chars=settings.server.max_text_chars,
        )
        models.append(model)
        if measures is not None:
            measures.loaded(model, time.monotonic() - began_s)
    return models


def require_safe_address(server: ServerSettings) -> None:
    """Raise SettingsError for an address off loopback, unless `insecure` is said: there are no keys yet."""
    if server.insecure or is_loopback(server.host):
        return
    raise SettingsError(
        f"server.host is {server.host}, which others can reach, and there is no authentication: "
        f"listen on 127.0.0.1 behind a proxy that authenticates, or say --insecure"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _calm_collector() -> None:
    """Leave what is loaded out of garbage collection, and collect after 50,000 new objects rather than 700.

    A tick of 64 requests makes thousands of short-lived objects that reference counting frees; looking through them
    at every 700 took 6 % of the time (py-spy).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class _Server(uvicorn.Server):
    """uvicorn, telling when it listens."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()


async def _serve_until_stopped(server: _Server, log: AuditLog, listener: socket.socket) -> None:
    # uvicorn raises the signal again once it has stopped; by then the log must still be closed in order. And a signal
    # that comes before uvicorn listens for it must not be lost.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, server.handle_exit)
    async with log:
        await server.serve(sockets=[listener])


def _log_bug(request_id: str, bug: Exception) -> None:
    _LOG.error("request %s ended in a bug", request_id, exc_info=bug)


def _info(settings: Settings) -> dict[str, object]:
    """What `/v1/info` says of the settings."""
    audit = {"durability": "write", "on_failure": settings.audit.on_failure}
    return {"audit": audit, "insecure": settings.server.insecure}


def _uvicorn_config(settings: Settings, predict: Predict, pages: Pages) -> uvicorn.Config:
    server = settings.server
    predictions = Predictions(predict, max_body_bytes=server.max_body_bytes, deadline_ms=server.deadline_ms)
    connection = partial(
        Http1, request_s=server.deadline_ms / 1e3, lane=Lane(predictions) if server.fast_lane else None
    )
    return uvicorn.Config(
        HttpApp(predictions, pages, Cors(server.cors_origins)),  # raw ASGI with plain dicts
        http=connection,  # type: ignore[arg-type]  # makes a protocol
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=max(1, round(server.keep_alive_s)),
        timeout_graceful_shutdown=max(1, round(server.drain_s)),
    )


def _listen(server: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {server.host}:{server.port}: {error.strerror}; choose another with --port"
        ) from error
    return listener


def _require_default_model(server: ServerSettings, host: Host) -> None:
    if server.default_model is not None and server.default_model not in host.table.models:
        known = ", ".join(sorted(host.table.models))
        raise SettingsError(f"server.default_model is {server.default_model!r}, but what is served is {known}")
