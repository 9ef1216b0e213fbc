"""What operators are told: the values of the control API, of its client and of `--json`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from penstock.assignment import Experiment
from penstock.audit.follow import Lag
from penstock.control.changes import Event, Lineage, ModelConfig
from penstock.control.rollouts import RolloutState
from penstock.rollout.confidence import Interval
from penstock.rollout.plan import Action
from penstock.rollout.reading import Reading


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


class WeighAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The experiment of a model after a change, with the buckets that its arms own; `is_applied` and `waits_for` as in
    `MoveAnswer`. `unserved` say of arms whose version cannot be served on this machine why: the champion answers there.
    """

    model: str
    before: Experiment | None
    after: Experiment | None
    revision: int
    is_changed: bool
    is_applied: bool = False
    waits_for: list[str] = []
    unserved: list[str] = []
    overruled: list[str] = []


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


class ShadowAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The version that shadows the version `champion` here. `state`: `running`, `restarting` (`why`, after so many
    `deaths`) or `stopped` (no controller runs).

    `pairs`, `errors` and `unscorable` are rows, of which `disagreement` is a share (None: no labels yet); `crashed`
    calls over which its process died; `skipped` records that it passed unread, too far behind. All are as of `at`.
    """

    version: int
    champion: int
    state: str
    why: str | None = None
    deaths: int = 0
    pairs: int = 0
    disagreement: float | None = None
    errors: int = 0
    crashed: int = 0
    unscorable: int = 0
    skipped: int = 0
    lag_s: float = 0.0
    lag_records: int = 0
    last_failure: str | None = None
    at: datetime | None = None


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A model: what aliases mean and the event that `moved` each, what each machine serves (alias to version), where a
    rollback would go; its experiment and its shadow on the machine that was asked, where there is one.
    """

    name: str
    revision: int
    aliases: dict[str, int]
    moved: dict[str, Event]
    serving: dict[str, dict[str, int]]
    rollback_to: int | None
    config: ModelConfig
    versions: list[VersionAnswer]
    experiment: Experiment | None = None
    shadow: ShadowAnswer | None = None


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


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The evidence at a moment (Unix seconds), for pictures: requests that count, and of each guardrail with events the
    lower end, the middle and the upper end of its ratio; an end that is unbounded is 1e6. `means` likewise, the
    differences whose interval could be told.
    """

    at_s: float
    canary_n: int
    champion_n: int
    ratios: dict[str, tuple[float, float, float]] = {}
    means: dict[str, tuple[float, float, float]] = {}


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of a rollout at a moment: guardrails, differences of means, requests that count by arm,
    requests that were placed and do not, requests that wait for their labels (and that there was no room to wait for),
    and how far behind the log this is. `samples` are earlier moments, at most 120; `span_s` is the time from the first
    request to the last.
    """

    readings: tuple[Reading, ...] = ()
    intervals: dict[str, Interval] = {}
    canary_n: int = 0
    champion_n: int = 0
    left_out: int = 0
    waiting: int = 0
    unwatched: int = 0
    lag: Lag = Lag(0, 0.0)
    samples: tuple[Sample, ...] = ()
    span_s: float = 0.0


class RolloutAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The last rollout of a model as the state has it; while it goes on, also what is known now and what follows
    from it (`action`), by the controller that was asked. `waits_for` as in `MoveAnswer`.
    """

    model: str
    rollout: RolloutState
    percent: float = 0.0
    judged: Judged | None = None
    action: Action | None = None
    waits_for: list[str] = []


class ArmAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An arm of an A/B test against the champion: what the log says (`judged`), and of the primary metric the
    difference, whose intervals hold for all arms together.

    `is_told`: the interval leaves 0 out. If not, `needed` more calls of the two arms are about what it takes at the
    present difference, `days` at the present rate (None: not in sight). `said` is that in words; `alarms` names the
    guardrails in alarm.
    """

    name: str
    version: int | None
    weight: int
    judged: Judged | None = None
    difference: Interval | None = None
    is_told: bool = False
    needed: int | None = None
    days: float | None = None
    said: str = ""
    alarms: list[str] = []


class ExperimentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The last experiment of a model as the state has it, and what is known of each of its arms by the controller that
    was asked. `champion` is the version that they are compared with; `is_frozen` where another one is champion now, so
    that nothing more counts.
    """

    model: str
    experiment: Experiment
    is_running: bool
    champion: int | None
    is_frozen: bool
    began: datetime
    began_by: str
    arms: list[ArmAnswer]
