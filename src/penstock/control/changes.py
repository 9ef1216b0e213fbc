"""What happens to the state: events, one for each change, never altered nor removed. Everything is derived of them.

An event says who, when, why, what was before and what is after. Revisions are 1, 2, 3, … without a gap over all models;
times never run backwards.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from penstock.assignment import Experiment
from penstock.rollout.declared import Plan
from penstock.rollout.plan import Reason, Stage
from penstock.rollout.reading import Reading
from penstock.routing import ModelOptions


class Who(msgspec.Struct, frozen=True):
    """Who asked for a change: until keys exist the operating system's user@host, which nobody has verified."""

    name: str
    is_verified: bool = False


class Lineage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a version comes from, as its bundle says: see `docs/control.md`. Nothing here is checked by Penstock."""

    packed_by: str = ""
    created_at: str = ""
    git_commit: str | None = None
    mlflow_run: str | None = None
    dvc_md5: str | None = None
    dvc_path: str | None = None


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a version must fulfil before an alias moves to it, besides its golden rows and a schema that fits.

    `floors` are the least values of metrics (`{"roc_auc": 0.85}`; of errors such as `rmse` the greatest), `max_loss`
    how much worse than the champion's each may be; both are of the evaluation, and `max_loss` needs the same
    evaluation set.
    """

    floors: dict[str, float] = {}
    max_loss: dict[str, Annotated[float, Meta(ge=0)]] = {}

    def __post_init__(self) -> None:
        for metric, bound in (*self.floors.items(), *self.max_loss.items()):
            if not math.isfinite(bound):  # which no event could carry
                raise ValueError(f"Expected a finite number for {metric}, got {bound}")


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is declared of a model: how it is served, and the rules of its aliases."""

    options: ModelOptions = ModelOptions()
    rules: dict[str, Rules] = {}


class Published(msgspec.Struct, frozen=True, kw_only=True, tag="published", omit_defaults=True):
    """A bundle became a version. `digest` is its content digest, `seal` the digest of its manifest."""

    version: int
    digest: str
    seal: str
    size_bytes: int
    flavour: str
    metrics: dict[str, float] = {}
    evaluation_set: str | None = None
    lineage: Lineage = Lineage()


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="moved", omit_defaults=True):
    """An alias names another version: `None` before it was given, and after it was taken away.

    `overruled` are the reasons against it that `--force` overruled.
    """

    alias: str
    before: int | None = None
    after: int | None = None
    is_rollback: bool = False
    overruled: tuple[str, ...] = ()


class Removed(msgspec.Struct, frozen=True, kw_only=True, tag="removed"):
    """A version is gone from the repository; its number is not given again."""

    version: int
    digest: str


class Configured(msgspec.Struct, frozen=True, kw_only=True, tag="configured"):
    """What is declared of the model was changed."""

    before: ModelConfig
    after: ModelConfig


class Weighed(msgspec.Struct, frozen=True, kw_only=True, tag="weighed", omit_defaults=True):
    """The model's experiment, or the weights of its arms, were changed: `None` before it began, and after it ended.

    `overruled` are the reasons against its versions that `--force` overruled.
    """

    before: Experiment | None = None
    after: Experiment | None = None
    overruled: tuple[str, ...] = ()


class Tried(msgspec.Struct, frozen=True, kw_only=True, tag="tried", omit_defaults=True):
    """A version was loaded and proven on a machine, apart from what serves; `why` it failed, None if it passed."""

    version: int
    node: str
    why: str | None = None


class Serving(msgspec.Struct, frozen=True, kw_only=True, tag="serving", omit_defaults=True):
    """All workers of a machine have applied a table: which version each alias of the model has answered by there."""

    node: str
    before: dict[str, int] = {}
    after: dict[str, int] = {}


Step: TypeAlias = Literal["start", "advance", "hold", "go_on", "approve", "abort", "promote"]
"""What happened: `go_on` ends a hold, a person's (`resume`) or one of its own."""


class Rolled(msgspec.Struct, frozen=True, kw_only=True, tag="rolled", omit_defaults=True):
    """A rollout began, went on, was held or ended; `why`, and the `readings` at that moment.

    `stage` and `step` are those from now on. `plan`, `digest`, `champion` (that it is compared with) and `node` (the
    machine that judges it, by its own log) come with the start. `canary_n` is how many requests the canary had when
    the step began. `accepted`: alarms that a person has seen and let pass.
    """

    rollout: str
    version: int
    what: Step
    stage: Stage
    step: int = 0
    is_by_hand: bool = False
    why: tuple[Reason, ...] = ()
    readings: tuple[Reading, ...] = ()
    canary_n: int = 0
    accepted: tuple[str, ...] = ()
    plan: Plan | None = None
    digest: str | None = None
    champion: int | None = None
    node: str = ""


class Exported(msgspec.Struct, frozen=True, kw_only=True, tag="exported", omit_defaults=True):
    """Records of the log were written to a file: `path` on the machine `node`, with this SHA-256 then.

    `conditions` say in words which records, without keys and values, for no event is ever erased; those of `since` up
    to `until`, None: all up to then.
    """

    node: str
    path: str
    lines: int
    sha256: str
    conditions: str = ""
    since: datetime | None = None
    until: datetime | None = None


class Erased(msgspec.Struct, frozen=True, kw_only=True, tag="erased", omit_defaults=True):
    """The payloads of `records` of these `models` were taken out of the log of the machine `node`; none are named where
    the calls are not in it any more.

    `exports` are the registered files out of which they were taken, too, `by_hand` those that may hold them yet.
    """

    node: str
    records: int
    models: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()


class Retained(msgspec.Struct, frozen=True, kw_only=True, tag="retained", omit_defaults=True):
    """Sealed records of the machine `node` are gone by `rules`: so many files and records, of these days (UTC).

    `upto` is the last time at which the index of the log says that one of them went.
    """

    node: str
    files: int
    records: int
    size_bytes: int
    first_day: str
    last_day: str
    rules: tuple[str, ...]
    upto: datetime


LogChange: TypeAlias = Exported | Erased | Retained
"""What happens to the log: it changes nothing of what ought to be served. A model's, or with an empty name of several
or of none.
"""

Change: TypeAlias = (
    Published | Moved | Removed | Configured | Weighed | Tried | Serving | Rolled | Exported | Erased | Retained
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one model. `at` is UTC; `revision` is its place among all events."""

    revision: int
    at: datetime
    who: Who
    model: str
    change: Change
    reason: str | None = None

    @property
    def kind(self) -> str:
        """The change's name: `published`, `moved`, `removed`, `configured`, `weighed`, `tried`, `serving`, `rolled`,
        `exported`, `erased` or `retained`.
        """
        return str(type(self.change).__struct_config__.tag)

    def concerns(self, model: str) -> bool:
        """Whether it belongs to the history of `model`: its own, or of the log of all models or of this one as well."""
        if self.model:
            return self.model == model
        if isinstance(self.change, Erased):
            return not self.change.models or model in self.change.models
        return isinstance(self.change, Exported)
