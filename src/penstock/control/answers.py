"""What operators are told: the values of the control API, of its client and of `--json`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from penstock.control.changes import Event, Lineage, ModelConfig


class MoveAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An alias after a move. `is_applied`: all workers of this machine serve it; else `waits_for` names those that do
    not, or says why (`no server runs here`). `overruled` are the reasons that `--force` overruled.
    """

    model: str
    alias: str
    before: int | None
    after: int | None
    revision: int
    is_changed: bool
    is_applied: bool = False
    waits_for: list[str] = []
    overruled: list[str] = []


class PublishAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A published version; not `is_new` where its content was there already. `move` is of `--alias`, or the first
    version's champion.
    """

    model: str
    version: int
    digest: str
    is_new: bool
    move: MoveAnswer | None = None


class VersionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A version: `aliases` that name it, `failures` per machine that could not load it, `serves_on` which machines."""

    number: int
    digest: str
    published_at: datetime
    published_by: str
    flavour: str
    size_bytes: int
    aliases: list[str]
    serves_on: list[str]
    failures: dict[str, str]
    metrics: dict[str, float]
    evaluation_set: str | None
    lineage: Lineage


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A model: what aliases mean and the event that `moved` each, what each machine serves (alias to version), where a
    rollback would go.
    """

    name: str
    revision: int
    aliases: dict[str, int]
    moved: dict[str, Event]
    serving: dict[str, dict[str, int]]
    rollback_to: int | None
    config: ModelConfig
    versions: list[VersionAnswer]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when (None: still) an alias meant a version; with a `node`, from when to when it answered there."""

    alias: str
    version: int
    since: datetime
    until: datetime | None = None
    node: str | None = None


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a model, oldest first; with `at`, also what aliases meant and what each machine served then."""

    model: str
    events: list[Event]
    wanted: list[Span]
    served: list[Span]
    at: datetime | None = None
    aliases_at: dict[str, int] = {}
    serving_at: dict[str, dict[str, int]] = {}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a declared state changes: `what` in words, and its JSON before and after."""

    model: str
    what: str
    before: msgspec.Raw
    after: msgspec.Raw


class ApplyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a declared state changes, or has changed."""

    differences: list[Difference]
    is_dry: bool
    is_applied: bool = False
    waits_for: list[str] = []


class GarbageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Versions removed by rule, and the files that nothing refers to any more; only named when `is_dry`."""

    versions: dict[str, list[int]]
    files: list[str]
    freed_bytes: int
    is_dry: bool


class RemovedFile(msgspec.Struct, frozen=True, kw_only=True):
    """Sealed records that retention let go: the file, below the audit directory, and why."""

    path: str
    records: int
    why: str


class SealAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What was sealed of the log, and what was removed; `problems` names the segments that stay, and why."""

    segments: int
    records: int
    files: int
    torn_bytes: int = 0
    removed: list[RemovedFile] = []
    problems: list[str] = []


class ExportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A registered export that held erased records: `lines` of it are gone; or `by_hand` says why a person has to see
    to it, who finds it at `path` on the machine `node`, if at all.
    """

    path: str
    node: str
    at: datetime
    who: str
    lines: int = 0
    by_hand: str | None = None


class EraseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Of how many records the payload was erased; `busy` segments hold more, and are being written: ask again later.
    `exports` are those that held such records, or may yet.
    """

    records: int
    busy: list[str] = []
    exports: list[ExportAnswer] = []
