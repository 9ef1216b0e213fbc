"""What a server says of itself once it answers."""

from __future__ import annotations

import msgspec


class Served(msgspec.Struct, frozen=True):
    """A version that is served: its flavour, the measured microseconds of one row, and a curl line that asks it."""

    name: str
    version: int
    flavour: str
    cost_us: float
    curl: str


class Started(msgspec.Struct, frozen=True):
    """A server that answers: where, by how many workers, what it serves, and where the first one's records go."""

    url: str
    workers: int
    models: list[Served]
    segment: str
