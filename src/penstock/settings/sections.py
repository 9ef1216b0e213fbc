"""The sections of `Settings`: each a table in the file, and the part before `__` in a variable's name.

`docs/settings.md` is generated from the fields here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from penstock.routing import FallbackOptions
from penstock.settings.control import (
    ControlSettings,
    ModelsSettings,
    RepositorySettings,
    ShadowSettings,
    StateSettings,
    WatchSettings,
    WebhookSettings,
)

MIB_BYTES = 1024 * 1024

_NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_ORIGIN = r"^https?://[^/\s*]+$"
_COLLECTOR = r"^https?://[^\s?#@]+$"  # no password: headers are for those


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The data port."""

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on; off loopback needs authentication or `insecure`.")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8080
    grpc_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(
            description="Port of the Open Inference Protocol over gRPC (usually 8081; the extra `grpc`); `null`: none, "
            "0: a free one. Messages up to `max_body_bytes`."
        ),
    ] = None
    default_model: Annotated[
        Annotated[str, Meta(pattern=_NAME, title="a model's name")] | None,
        Meta(description="Model that the short names (`/predict` and the like) mean, where several are served."),
    ] = None
    insecure: Annotated[bool, Meta(description="Listen off loopback without authentication.")] = False
    cors_origins: Annotated[
        tuple[Annotated[str, Meta(pattern=_ORIGIN, title="an origin as in `https://shop.example`")], ...],
        Meta(description="Origins whose web pages may call the data port; each is named, there is no `*`."),
    ] = ()
    max_body_bytes: Annotated[int, Meta(ge=1024, le=2**31 - 1, description="Largest request body.")] = 16 * MIB_BYTES
    max_rows: Annotated[int, Meta(ge=1, le=10_000_000, description="Most rows in one request.")] = 10_000
    max_text_chars: Annotated[int, Meta(ge=1, le=2**31 - 1, description="Longest text in a row, in characters.")] = 8192
    deadline_ms: Annotated[
        int,
        Meta(ge=1, le=3_600_000, description="Longest time for a request; the caller's `X-Deadline-Ms` shortens it."),
    ] = 30_000
    workers: Annotated[
        Annotated[int, Meta(ge=0, le=256)] | None,
        Meta(
            description="Worker processes that share the port; `null`: one for each core that may be used (cgroups "
            "counted); 0: the first process serves by itself, native bundles included."
        ),
    ] = None
    fast_lane: Annotated[
        bool, Meta(description="Answer plain predictions without ASGI; off, every request takes the same slow path.")
    ] = True
    unready_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="On stopping, how long calls are still taken while `/health/ready` says 503, for load "
            "balancers that look now and then.",
        ),
    ] = 0.0
    drain_s: Annotated[
        float, Meta(ge=0, le=3600, description="On stopping, how long requests under way may still take.")
    ] = 30.0
    keep_alive_s: Annotated[float, Meta(ge=0, le=3600, description="How long an idle connection is kept.")] = 5.0


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker takes on at a time; beyond it callers are refused at once (503), not kept waiting."""

    queue_rows: Annotated[
        int, Meta(ge=1, le=2**31 - 1, description="Most rows of a model's version that wait or are computed.")
    ] = 10_000
    bytes_in_flight: Annotated[
        int, Meta(ge=1024, le=2**40, description="Most bytes of request bodies that are received or worked on.")
    ] = 64 * MIB_BYTES
    connections: Annotated[int, Meta(ge=1, le=1_000_000, description="Most open connections.")] = 1000
    breaker_failures: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Failed calls in a row that open a version's circuit breaker; 0: never."),
    ] = 10
    breaker_open_s: Annotated[
        float, Meta(ge=0.01, le=3600, description="How long the breaker stays open before one call may try.")
    ] = 5.0


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The response cache of each worker."""

    entries: Annotated[int, Meta(ge=0, le=10_000_000, description="Most rows whose answers are kept; 0: none.")] = 0
    max_bytes: Annotated[int, Meta(ge=1024, le=2**40, description="Most memory for them, about.")] = 64 * MIB_BYTES
    ttl_s: Annotated[float, Meta(ge=0.001, le=31_536_000, description="How long an answer is kept.")] = 60.0


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the sealed records of one model are kept; None: as those of all."""

    days: Annotated[float, Meta(ge=0.01, le=36_500)] | None = None
    bytes: Annotated[int, Meta(ge=0, le=2**60)] | None = None


class AuditSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The record of every answer."""

    durability: Annotated[
        Literal["off", "async", "write", "fsync", "strict"],
        Meta(
            description="When a record is written and what a crash may take of it (`docs/audit.md`). Where one cannot "
            "be written, `async` and `write` answer and count the loss, `fsync` and `strict` answer 503."
        ),
    ] = "write"
    async_records: Annotated[
        int, Meta(ge=100, le=10_000_000, description="With `async`, most records of answered calls not yet written.")
    ] = 10_000
    async_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="With `async`, how long a record waits for others before its write.")
    ] = 100
    clear_ids: Annotated[
        bool,
        Meta(
            description="Keep callers' keys and client ids in clear; off, keyed hashes are kept (the secret is in "
            "`<home>/audit.key`)."
        ),
    ] = False
    payload: Annotated[
        dict[str, Literal["full", "features", "none"] | Annotated[float, Meta(ge=0, le=1)]],
        Meta(
            title="a table `[audit.payload]`, for each model `full`, `features`, `none` or a share as `0.1`",
            description="How much of a call's rows and answers a model's records keep; all, where nothing is said.",
        ),
    ] = msgspec.field(default_factory=dict)
    segment_bytes: Annotated[
        int, Meta(ge=MIB_BYTES, le=2**40, description="Size at which a segment of the log is closed for a new one.")
    ] = 128 * MIB_BYTES
    seal_after_s: Annotated[
        float,
        Meta(
            ge=1,
            le=31_536_000,
            description="Age at which a segment with records is closed for a new one, to be sealed.",
        ),
    ] = 3600.0
    retention_days: Annotated[
        float, Meta(ge=0.01, le=36_500, description="Sealed records older than this are removed.")
    ] = 30.0
    retention_bytes: Annotated[
        int, Meta(ge=0, le=2**60, description="Of each model, the oldest sealed files above this size are removed.")
    ] = 10_000_000_000
    retention: Annotated[
        dict[str, RetentionSettings],
        Meta(
            title="a table per model, as in `[audit.retention.churn]` with `days` and `bytes`",
            description="Models whose sealed records are kept for longer or shorter than all others'.",
        ),
    ] = msgspec.field(default_factory=dict)
    hold: Annotated[
        tuple[Annotated[str, Meta(pattern=_NAME, title="a model's name")], ...],
        Meta(description="Models of which no record is removed, however old and however many."),
    ] = ()


class SklearnSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Native scikit-learn bundles."""

    trusted: Annotated[
        tuple[Annotated[str, Meta(min_length=1, title="a type's full dotted name")], ...],
        Meta(description="Types, beyond the built-in list, that a native bundle may load."),
    ] = ()


class NativeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Native bundles of any library."""

    allow_version_skew: Annotated[
        bool,
        Meta(
            description="Load native bundles that were packed with another minor version of their library; their "
            "golden rows still decide."
        ),
    ] = False
    processes: Annotated[
        int, Meta(ge=1, le=64, description="Processes of each native bundle, under a supervisor; at most one a worker.")
    ] = 1
    grace_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="A native run that takes this much longer than `server.deadline_ms` is ended."),
    ] = 10.0


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says of itself on stderr and in a file; not the record of answers."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least serious line that is written.")
    ] = "info"
    format: Annotated[
        Literal["text", "json"], Meta(description="On stderr: lines for people, or one JSON object a line.")
    ] = "text"
    file: Annotated[
        Annotated[str, Meta(min_length=1, title="a file's path")] | None,
        Meta(description="File that gets the same lines as JSON, of all workers; rotated."),
    ] = None
    max_bytes: Annotated[
        int, Meta(ge=4096, le=2**40, description="Size at which the log file is moved aside for a new one.")
    ] = 10 * MIB_BYTES
    backups: Annotated[int, Meta(ge=1, le=1000, description="How many log files moved aside are kept.")] = 5
    slow_ms: Annotated[
        int, Meta(ge=0, le=3_600_000, description="A call that takes this long gets a warning line; 0 turns it off.")
    ] = 1000


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Spans for an OpenTelemetry collector."""

    otlp_endpoint: Annotated[
        Annotated[str, Meta(pattern=_COLLECTOR, title="a URL as in `http://collector:4318`")] | None,
        Meta(
            description="Collector that gets spans by OTLP over HTTP (`/v1/traces` below this URL); the variable "
            "`OTEL_EXPORTER_OTLP_ENDPOINT` counts as well. Needs `penstock[otel]`."
        ),
    ] = None
    sample: Annotated[
        float,
        Meta(ge=0, le=1, description="Share of calls that get spans, of those that come without a `traceparent`."),
    ] = 0.01


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. A section is a table in the file and the part before `__` in a variable's name."""

    home: Annotated[str, Meta(min_length=1, description="Directory under which all data live.")] = "./penstock-home"
    server: ServerSettings = ServerSettings()
    limits: LimitsSettings = LimitsSettings()
    cache: CacheSettings = CacheSettings()
    fallback: Annotated[
        dict[str, FallbackOptions],
        Meta(
            title="a table per model, as in `[fallback.churn]` with `kind`",
            description="What answers when a model cannot: a constant, another version, or an abstention.",
        ),
    ] = msgspec.field(default_factory=dict)
    audit: AuditSettings = AuditSettings()
    sklearn: SklearnSettings = SklearnSettings()
    native: NativeSettings = NativeSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    state: StateSettings = StateSettings()
    repository: RepositorySettings = RepositorySettings()
    control: ControlSettings = ControlSettings()
    models: ModelsSettings = ModelsSettings()
    watch: WatchSettings = WatchSettings()
    shadow: ShadowSettings = ShadowSettings()
    webhooks: Annotated[
        dict[str, WebhookSettings],
        Meta(
            title="a table per receiver, as in `[webhooks.ops]` with `url`",
            description="Receivers of events as CloudEvents; with a `secret` they are signed, `kinds` picks some.",
        ),
    ] = msgspec.field(default_factory=dict)
