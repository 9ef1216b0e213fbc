"""What passes between a protocol and the hot path: a `Call` goes in, a `Reply` comes out. No transport in here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from penstock.errors import CallFailure
from penstock.runtime import Version
from penstock.schema import Check
from penstock.schema.prediction import Prediction

ANONYMOUS = "anonymous"


class Asked:
    """What a caller asks of a model, read and checked: row structs of `check.row`, in order.

    `raw` is the rows as they came, and only there when the check changed something (a default, a mapping).
    """

    __slots__ = ("key", "raw", "rows")

    def __init__(self, rows: list[Any], *, key: str | None = None, raw: list[Any] | None = None) -> None:
        self.rows = rows
        self.key = key
        self.raw = raw


Reader = Callable[[bytes], Asked]


class Spoken:
    """What one protocol needs of one loaded version: its reader, and the opening of its answers' records."""

    __slots__ = ("opening", "read")

    def __init__(self, read: Reader, opening: bytes) -> None:
        self.read = read
        self.opening = opening


class Face(Protocol):
    """A protocol: bytes to `Asked`, reply or failure to bytes. Pure, and without logic of its own."""

    name: str

    def open(self, call: Call) -> bytes:
        """The bytes for the reader, out of the body; what the envelope asks for is set in `call`. Raises Unreadable."""
        ...

    def reader(self, check: Check, max_rows: int) -> Reader:
        """A function that reads those bytes for one schema; compiled once per loaded version."""
        ...

    def answer(self, reply: Reply) -> bytes:
        """The body of an answer."""
        ...

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """The body of a refusal or failure."""
        ...


class Call:
    """One call as a protocol read it from its bytes. `failure` is set where it could not be read that far.

    `deadline_ns` and `arrived_ns` are on `time.monotonic_ns`'s clock; a deadline of 0 is none.
    """

    __slots__ = (
        "alias",
        "arrived_ns",
        "body",
        "client_id",
        "deadline_ns",
        "face",
        "failure",
        "key",
        "model",
        "principal",
        "version",
    )

    def __init__(self, face: Face, body: bytes, arrived_ns: int) -> None:
        self.face = face
        self.body = body
        self.arrived_ns = arrived_ns
        self.model: str | None = None
        self.version: int | None = None
        self.alias: str | None = None
        self.client_id: str | None = None
        self.key: str | None = None
        self.principal = ANONYMOUS
        self.deadline_ns = 0
        self.failure: CallFailure | None = None


class Reply:
    """What the hot path gives back: an answer, or a `failure`. It is in the audit log already.

    `encoded` is the JSON text of the list of predictions: the same bytes that the record holds.
    """

    __slots__ = ("at", "encoded", "failure", "latency_ms", "model", "predictions", "request_id")

    def __init__(self, request_id: str, at: datetime) -> None:
        self.request_id = request_id
        self.at = at
        self.model: Version | None = None
        self.failure: CallFailure | None = None
        self.predictions: list[Prediction] = []
        self.encoded = _NOTHING
        self.latency_ms = 0.0

    @property
    def answerer(self) -> Version:
        """The version that answered; only asked of an answer. Raises ValueError for a reply that is none."""
        if self.model is None:
            raise ValueError("a reply without a model is no answer")
        return self.model


_NOTHING = msgspec.Raw(b"[]")
