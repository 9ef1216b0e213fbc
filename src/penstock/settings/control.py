"""The sections of `Settings` that the control plane reads: where the state and the bundles are, who may change them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_HOOK = r"^https?://[^\s#@]+$"


class StateSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The database of events."""

    url: Annotated[
        Annotated[str, Meta(min_length=1, title="a database URL")] | None,
        Meta(
            description="`postgresql://user@host/database` (needs `penstock[postgres]`); `null`: SQLite, `state.db` in "
            "the home directory."
        ),
    ] = None


class RepositorySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bundles of published versions are kept."""

    url: Annotated[
        Annotated[str, Meta(min_length=1, title="a directory or an fsspec URL")] | None,
        Meta(
            description="A directory, or a URL of fsspec's as in `s3://bucket/penstock` (needs `penstock[s3]`); "
            "`null`: `repository` in the home directory."
        ),
    ] = None


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The control API and the process that answers it; not with `--bundle`."""

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on; off loopback needs `insecure` until keys exist.")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8082
    insecure: Annotated[bool, Meta(description="Listen off loopback without authentication.")] = False
    node: Annotated[
        Annotated[str, Meta(min_length=1, title="a machine's name")] | None,
        Meta(description="What this machine is called in the history; `null`: its host name."),
    ] = None
    hosts: Annotated[
        tuple[Annotated[str, Meta(min_length=1, title="a host's name")], ...],
        Meta(description="Names, beyond those of loopback, that a request's `Host` may say."),
    ] = ()
    max_bundle_bytes: Annotated[
        int, Meta(ge=1024, le=2**40, description="Largest bundle that is published over the control API.")
    ] = 8 << 30
    apply_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=3600,
            description="How long `deploy` and `rollback` wait for all workers to apply them.",
        ),
    ] = 60.0
    try_s: Annotated[
        float, Meta(ge=1, le=3600, description="How long a new version may take to load and prove itself, on its own.")
    ] = 120.0


class ModelsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which versions stay in memory."""

    kept: Annotated[
        int, Meta(ge=0, le=100, description="Versions that were champion last and stay loaded, for a quick rollback.")
    ] = 1
    keep_last: Annotated[
        int, Meta(ge=0, le=10_000, description="The versions of a model published last are never garbage.")
    ] = 10
    keep_days: Annotated[
        float, Meta(ge=0, le=36_500, description="A version younger than this many days is never garbage.")
    ] = 30.0
    memory_bytes: Annotated[
        Annotated[int, Meta(ge=1024, le=2**50)] | None,
        Meta(
            description="Memory for the models of each worker; above it the least recently used version goes that no "
            "alias names. `null`: no limit."
        ),
    ] = None


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken up by itself."""

    directory: Annotated[
        Annotated[str, Meta(min_length=1, title="a directory's path")] | None,
        Meta(description="Bundles that appear in it as `NAME/ANYTHING/` are published; `null`: none is watched."),
    ] = None
    config: Annotated[
        Annotated[str, Meta(min_length=1, title="a file's path")] | None,
        Meta(description="A declared state as `penstock apply` takes it, applied whenever the file changes."),
    ] = None
    allow_unsafe: Annotated[
        bool,
        Meta(
            description="Take up founding folders as well, whose pickles run code: once, in a child process, as the "
            "server's user."
        ),
    ] = False
    interval_s: Annotated[float, Meta(ge=0.1, le=3600, description="How often it is looked.")] = 1.0


class ShadowSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Versions with the alias `shadow`."""

    max_lag_s: Annotated[
        float,
        Meta(ge=1, le=31_536_000, description="A shadow that is further behind the calls skips what it has not read."),
    ] = 60.0
    priority: Annotated[
        Literal["idle", "low"],
        Meta(description="`idle`: it runs only where a core has nothing else to do. `low`: it gets a little anyway."),
    ] = "idle"


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver of events, as CloudEvents."""

    url: Annotated[str, Meta(pattern=_HOOK)]
    secret: Annotated[str, Meta(min_length=16)] | None = None
    kinds: tuple[str, ...] = ()
