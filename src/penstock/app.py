"""Builds the object graph of a server, starts it and stops it: stopping is starting in reverse, by one exit stack."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import time
from asyncio import Runner
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
import uvloop

from penstock.address import BACKLOG, grpc_address, listen, require_safe_address, reserved_grpc_port, url_of
from penstock.audit import AsyncBound, AuditLog, Privacy, bound_of, open_pseudonyms, recover
from penstock.bundle.load import import_loader
from penstock.cores import workers_of
from penstock.errors import SettingsError
from penstock.given import given, is_given
from penstock.loading import resident_bytes
from penstock.notify import NOBODY, READY, STOPPING, Notify
from penstock.routing import Wanted, listed, read_wanted
from penstock.runtime import Dormant, Fallback, Host, Limits, RemoteModel, ResponseCache, Version
from penstock.server.curl import curl_line
from penstock.server.feedback import Feedback
from penstock.server.http.asgi import HttpApp
from penstock.server.http.connection import Http1
from penstock.server.http.cors import Cors
from penstock.server.http.door import Door
from penstock.server.http.lane import Lane
from penstock.server.http.pages import MetricsText, Pages
from penstock.server.http.predictions import Predictions
from penstock.server.intake import Intake
from penstock.server.measures import Measures
from penstock.server.predict import Predict
from penstock.server.protocols.v2_models import V2Models
from penstock.server.rpc import GrpcServer, grpc_server
from penstock.server.witness import Witness
from penstock.settings import CacheSettings, ServerSettings, Settings
from penstock.started import Loaded, Served, Started
from penstock.swaps import Swaps
from penstock.telemetry import FamilyState, Registry, open_spans, process_state

_LOG = logging.getLogger("penstock")


class Assembled(msgspec.Struct, frozen=True):
    """The object graph of one worker, ready to run: `config` has the application and the connections' class."""

    registry: Registry
    host: Host
    swaps: Swaps
    log: AuditLog
    runner: Runner
    config: uvicorn.Config
    grpc: GrpcServer | None


def serve(
    settings: Settings, bundles: Sequence[Path], *, on_start: Callable[[Started], None], notify: Notify = NOBODY
) -> None:
    """Serve `bundles` in this process until SIGTERM or SIGINT, or without any what the home's `routing.json` says.

    Blocks. Raises SettingsError, BundleRefused, MissingExtra, SegmentError.
    """
    require_safe_address(settings.server)
    wanted = given(bundles, settings.server.default_model) if bundles else read_wanted(Path(settings.home))
    with (
        reserved_grpc_port(settings) as ours,
        assembled(ours, wanted) as parts,
        listen(settings.server) as listener,
    ):

        def started() -> None:
            url, grpc = url_of(listener), grpc_address(ours.server)
            on_start(Started(url, 0, served(parts.host.models(), url), parts.log.where, resident_bytes(), grpc))

        server = TellingServer(parts.config, parts.host, started, notify=notify, unready_s=settings.server.unready_s)
        parts.runner.run(serve_until_stopped(server, parts.log, [listener], parts.grpc))


@contextlib.contextmanager
def assembled(
    settings: Settings,
    wanted: Wanted,
    *,
    worker: int = 0,
    metrics: MetricsText | None = None,
    apart: Sequence[Loaded] | None = None,
    registry: Registry | None = None,
) -> Iterator[Assembled]:
    """Everything that answers, built and taken down in reverse. `metrics` gives the text of `/metrics`, where it is not
    this process' own numbers alone. Native versions are computed here if `apart` is None, else by the processes that
    have loaded those of it. Raises as `serve` does.
    """
    registry = Registry() if registry is None else registry
    measures = Measures(registry)
    _calm_collector()
    swaps = Swaps(wanted, settings, measures, apart)
    audit = Path(settings.home) / "audit"
    _mend(audit)
    with contextlib.ExitStack() as stack:
        cache = _cache(settings.cache, registry)
        host = stack.enter_context(contextlib.closing(_host(settings, swaps, measures, cache)))
        swaps.begin(host)
        if is_given(wanted):
            _require_known(settings, host)
        runner = stack.enter_context(Runner(loop_factory=uvloop.new_event_loop))
        log = AuditLog(
            audit,
            worker=worker,
            durability=settings.audit.durability,
            async_bound=_async_bound(settings),
            segment_bytes=settings.audit.segment_bytes,
            segment_s=settings.audit.seal_after_s,
            registry=registry,
        )
        witness = stack.enter_context(contextlib.closing(_witness(settings, worker, registry, stack)))
        privacy = _privacy(settings)
        predict = Predict(
            host,
            log,
            measures=measures,
            witness=witness,
            max_rows=settings.server.max_rows,
            intake=Intake(settings.limits.bytes_in_flight),
            cache=cache,
            privacy=privacy,
        )
        pages = Pages(host, metrics or own_metrics(registry, worker), info=_info(settings, wanted))
        feedback = Feedback(host, log, witness=witness, measures=measures, intake=predict.intake, privacy=privacy)
        door = Door(settings.limits.connections, registry)
        grpc = _grpc(settings.server, predict, host)
        config = _uvicorn_config(settings, predict, pages, door, feedback=feedback)
        yield Assembled(registry, host, swaps, log, runner, config, grpc)


def _grpc(server: ServerSettings, predict: Predict, host: Host) -> GrpcServer | None:
    """The gRPC server, where the settings name a port for it. Raises MissingExtra."""
    address = grpc_address(server)
    if address is None:
        return None
    return grpc_server(
        predict,
        V2Models(host),
        address=address,
        deadline_ms=server.deadline_ms,
        max_bytes=server.max_body_bytes,
        drain_s=server.drain_s,
    )


def _cache(settings: CacheSettings, registry: Registry) -> ResponseCache | None:
    if not settings.entries:
        return None
    return ResponseCache(
        entries=settings.entries, max_bytes=settings.max_bytes, ttl_s=settings.ttl_s, registry=registry
    )


def _host(settings: Settings, swaps: Swaps, measures: Measures, cache: ResponseCache | None) -> Host:
    """A host that serves nothing yet, with the settings' bounds and fallbacks."""
    limits = settings.limits
    return Host(
        [],
        on_run=measures.ran,
        on_swap=cache.clear if cache is not None else lambda: None,
        limits=Limits(limits.queue_rows, limits.breaker_failures, limits.breaker_open_s, settings.models.memory_bytes),
        fallbacks={name: Fallback.of(options) for name, options in settings.fallback.items()},
        registry=measures.registry,
        load=swaps.load,
    )


def _require_known(settings: Settings, host: Host) -> None:
    """Raise SettingsError for a default model or a fallback of what is not served."""
    models = host.table.models
    default_model = settings.server.default_model
    if default_model is not None and default_model not in models:
        raise SettingsError(f"server.default_model is {default_model!r}, but what is served is {listed(models)}")
    for name, fallback in settings.fallback.items():
        if name not in models:
            raise SettingsError(f"fallback.{name} is set, but what is served is {listed(models)}")
        version = fallback.version
        if version is not None and version not in models[name].versions:
            raise SettingsError(
                f"fallback.{name} names version {version}, but the versions are {listed(models[name].versions)}"
            )


def served(models: Sequence[Version], url: str) -> list[Served]:
    """What is said of `models`, which answer at `url`."""
    return [
        Served(
            name=model.name,
            version=model.version,
            flavour=model.bundle.flavour,
            cost_us=model.cost.row_us,
            rows_64_us=model.cost.rows_64_us,
            memory_bytes=model.cost.memory_bytes,
            is_apart=isinstance(model, RemoteModel),
            curl=curl_line(url, model),
        )
        for model in models
        if not isinstance(model, Dormant)
    ]


def own_metrics(registry: Registry, worker: int) -> MetricsText:
    """The metrics of this process alone."""

    async def text() -> str:
        every = Registry()
        every.merge(counted(registry, worker))
        return every.text()

    return text


def counted(registry: Registry, worker: int) -> list[FamilyState]:
    """What this process has counted, its own memory and time included."""
    return [*registry.state(), *process_state({"worker": str(worker)})]


def _async_bound(settings: Settings) -> AsyncBound:
    return AsyncBound(settings.audit.async_records, settings.audit.async_ms)


def _privacy(settings: Settings) -> Privacy:
    """Raises SegmentError where the home's secret cannot be read or made."""
    audit = settings.audit
    return Privacy(None if audit.clear_ids else open_pseudonyms(Path(settings.home)), audit.payload)


def _mend(audit: Path) -> None:
    for repair in recover(audit):
        if repair.broken is not None:
            _LOG.error("audit: %s is broken and was left as it is: %s", repair.path, repair.broken)
        if repair.cut_bytes:
            _LOG.warning("audit: cut a torn tail of %d bytes off %s", repair.cut_bytes, repair.path)
        if repair.lost:
            _LOG.warning("audit: %d records of answered calls were lost by a kill, says %s", repair.lost, repair.path)


def _calm_collector() -> None:
    """Leave what is imported out of garbage collection, and collect after 50,000 new objects rather than 700.

    A tick of 64 requests makes thousands of short-lived objects that reference counting frees; looking through them
    at every 700 took 6 % of the time (py-spy). Models are loaded after this: one that is swapped out is to be freed.
    """
    import_loader("onnx")
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class TellingServer(uvicorn.Server):
    """uvicorn, telling when it listens; `notify` hears that it lives and that it stops. The first signal makes `host`
    not ready, and `unready_s` later, or at the second, it stops.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        host: Host,
        on_start: Callable[[], None],
        *,
        notify: Notify = NOBODY,
        unready_s: float = 0.0,
    ) -> None:
        super().__init__(config)
        self._host = host
        self._unready_s = unready_s
        self._stop_at_s: float | None = None
        self._on_start = on_start
        self._notify = notify
        self._alive: asyncio.Task[None] | None = None
        self.on_stop: Callable[[], Awaitable[None]] = nothing
        """Stops what else answers, while uvicorn drains."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()
        self._notify.tell(READY)
        self._alive = asyncio.create_task(self._notify.tell_alive())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, or first be not ready for a while."""
        super().handle_exit(sig, frame)
        self._host.is_stopping = True
        if self._unready_s and self._stop_at_s is None:
            self._stop_at_s = time.monotonic() + self._unready_s
            self.should_exit = False

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn, ten times a second: whether to stop."""
        if self._stop_at_s is not None and time.monotonic() >= self._stop_at_s:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._alive is not None:
            self._alive.cancel()
        self._notify.tell(STOPPING)
        await asyncio.gather(super().shutdown(sockets), self.on_stop())


async def nothing() -> None:
    """What there is to stop where there is nothing else."""


async def serve_until_stopped(
    server: TellingServer, log: AuditLog, listeners: list[socket.socket], grpc: GrpcServer | None = None
) -> None:
    """Run `server` on `listeners` and `grpc`, the log open around them, until it is told to stop."""
    # uvicorn raises the signal again once it has stopped; by then the log must still be closed in order. And a signal
    # that comes before uvicorn listens for it must not be lost.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, server.handle_exit)
    async with log:
        if grpc is not None:
            await grpc.start()
            server.on_stop = grpc.stop
        await server.serve(sockets=listeners)


def _witness(settings: Settings, worker: int, registry: Registry, stack: contextlib.ExitStack) -> Witness:
    """What tells of calls; spans are sent where the settings name a collector. Raises MissingExtra."""
    telemetry, slow_ms = settings.telemetry, settings.log.slow_ms
    if telemetry.otlp_endpoint is None:
        return Witness(slow_ms=slow_ms)
    spans = open_spans(telemetry.otlp_endpoint, worker=worker, registry=registry)
    stack.enter_context(contextlib.closing(spans))
    return Witness(slow_ms=slow_ms, spans=spans, sample=telemetry.sample)


def _info(settings: Settings, wanted: Wanted) -> dict[str, object]:
    """What `/v1/info` says of the settings, the unsafe ones above all."""
    audit = settings.audit
    has_control = not is_given(wanted) and workers_of(settings.server.workers) > 0  # one process has no controller
    return {
        "audit": {
            "durability": audit.durability,
            "bound": bound_of(audit.durability, _async_bound(settings)),
        },
        "insecure": settings.server.insecure,
        "control": {"on": has_control, "insecure": settings.control.insecure},
        "watch": {
            "on": has_control and settings.watch.directory is not None,
            "allow_unsafe": settings.watch.allow_unsafe,
        },
    }


def _uvicorn_config(
    settings: Settings, predict: Predict, pages: Pages, door: Door, *, feedback: Feedback
) -> uvicorn.Config:
    server = settings.server
    predictions = Predictions(predict, max_body_bytes=server.max_body_bytes, deadline_ms=server.deadline_ms)
    connection = partial(
        Http1,
        request_s=server.deadline_ms / 1e3,
        lane=Lane(predictions) if server.fast_lane else None,
        door=door,
    )
    return uvicorn.Config(
        HttpApp(predictions, pages, Cors(server.cors_origins), feedback),  # raw ASGI with plain dicts
        http=connection,  # type: ignore[arg-type]  # makes a protocol
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=max(1, round(server.keep_alive_s)),
        timeout_graceful_shutdown=max(1, round(server.drain_s)),
    )
