"""What passes between a protocol and the hot path: a `Call` goes in, a `Reply` comes out. No transport in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import msgspec

from penstock.assignment import Assigned
from penstock.audit import FellBack, Masker, Policy
from penstock.bundle.outputs import OutputSpec
from penstock.errors import CallFailure
from penstock.runtime import Served, Ticket, Took, Version
from penstock.schema import Check
from penstock.schema.prediction import Prediction
from penstock.telemetry import Trace

ANONYMOUS = "anonymous"


class Asked(msgspec.Struct, frozen=True):
    """What a caller asks of a model, read and checked: row structs of `check.row`, in order.

    `raw` is the rows as they came, and only there when the check changed something (a default, a mapping). `wish` is
    what the protocol's own answer depends on (outputs that were asked for, their form); nobody else looks at it.
    """

    rows: Sequence[Any]
    key: str | None = None
    raw: list[Any] | None = None
    wish: Any = None


Reader = Callable[[bytes], Asked]


class Spoken:
    """What one protocol needs of one loaded version: its reader, its masker, the opening of its answers' records, and
    how much of their payload is kept.
    """

    __slots__ = ("masker", "opening", "policy", "read")

    def __init__(self, read: Reader, masker: Masker, opening: bytes, policy: Policy = "full") -> None:
        self.policy = policy
        self.read = read
        self.masker = masker
        self.opening = opening


class Face(Protocol):
    """A protocol: bytes to `Asked`, reply or failure to bytes. Pure, and without logic of its own."""

    name: str
    reads: bytes
    """The media type of its requests; `*/*` for a protocol whose callers name any, or none."""

    writes: bytes
    """The media type of its answers, unless `Reply.headers` says otherwise."""

    def open(self, call: Call) -> bytes:
        """The bytes for the reader, out of the body; what the envelope asks for is set in `call`. Raises Unreadable."""
        ...

    def reader(self, check: Check, max_rows: int) -> Reader:
        """A function that reads those bytes for one schema; compiled once per loaded version."""
        ...

    def answer(self, call: Call) -> bytes:
        """The body of the answer to `call`, which has its `asked` and its `reply`."""
        ...

    def refusal(self, failure: CallFailure, request_id: str) -> bytes:
        """The body of a refusal or failure."""
        ...


@runtime_checkable
class NamesOutputs(Protocol):
    """A face whose requests say which outputs they want, so that its reader needs to know them."""

    def reader_for(self, check: Check, max_rows: int, spec: OutputSpec | None) -> Reader:
        """As `Face.reader`; the reader refuses outputs that are none of `spec`'s."""
        ...


class Call(Ticket):
    """One call on its way. A protocol reads it from bytes (`failure` is set where it could not be read that far), the
    hot path adds what becomes of it, and `done` gets it back once its `reply` is recorded.

    `deadline_ns` and `arrived_ns` are on `time.monotonic_ns`'s clock; a deadline of 0 is none.
    """

    model: str | None = None
    version: int | None = None
    alias: str | None = None
    client_id: str | None = None
    key: str | None = None
    principal = ANONYMOUS
    failure: CallFailure | None = None
    trace: Trace | None = None
    headers: Mapping[bytes, bytes] = {}
    """The request's headers, names in lower case, for faces that speak in them and for rules of experiments."""

    reply: Reply
    served: Served | None = None
    spoken: Spoken | None = None
    asked: Asked | None = None
    assigned: Assigned | None = None
    took: Took | None = None
    cache_keys: Sequence[bytes] = ()
    covers: Covered | None = None
    done: Callable[[Call], None]

    def __init__(self, face: Face, body: bytes, arrived_ns: int) -> None:
        self.face = face
        self.body = body
        self.arrived_ns = arrived_ns

    def hang_up(self) -> None:
        """Its caller is gone: where its rows have not been answered yet, they need not be."""
        if self.served is not None and self.queued_ns:
            self.served.batcher.drop(self)


class Covered(msgspec.Struct, frozen=True):
    """What a fallback version stands in for: the version that was asked, what was asked of it, and how it failed."""

    served: Served
    spoken: Spoken
    asked: Asked
    failure: CallFailure


class Reply:
    """What the hot path gives back: an answer, or a `failure`.

    `encoded` is the JSON text of the list of predictions: the same bytes that the record holds. `fallback` says what
    answered in place of the model that was asked, `is_cached` that the response cache did. `headers` are set by the
    protocol's `answer`, where its answer needs more than `Face.writes` says.
    """

    model: Version | None = None
    failure: CallFailure | None = None
    predictions: Sequence[Prediction] = ()
    encoded = b"[]"
    latency_ms = 0.0
    fallback: FellBack | None = None
    is_cached = False
    headers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, request_id: str, at: datetime) -> None:
        self.request_id = request_id
        self.at = at

    @property
    def answerer(self) -> Version:
        """The version that answered; only asked of an answer. Raises ValueError for a reply that is none."""
        if self.model is None:
            raise ValueError("a reply without a model is no answer")
        return self.model
