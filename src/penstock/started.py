"""What a server says of itself once it answers, and a process of a native model once it can."""

from __future__ import annotations

import msgspec


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """A version that its process has loaded and proven: its name, digest, and what it costs (see `runtime.Cost`)."""

    name: str
    version: int
    digest: str
    row_us: float
    rows_64_us: float
    memory_bytes: int


class Served(msgspec.Struct, frozen=True):
    """A version that is served: its flavour, what it costs (see `runtime.Cost`), and a curl line that asks it.

    `is_apart`: it has a process of its own.
    """

    name: str
    version: int
    flavour: str
    cost_us: float
    rows_64_us: float
    memory_bytes: int
    is_apart: bool
    curl: str


class Started(msgspec.Struct, frozen=True):
    """A server that answers: where, by how many workers (0: by the first process), what it serves, where the first
    one's records go, the resident memory of each worker, and where gRPC and the control API are answered (None:
    nowhere).
    """

    url: str
    workers: int
    models: list[Served]
    segment: str
    worker_bytes: int
    grpc: str | None = None
    control: str | None = None
