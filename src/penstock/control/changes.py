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


Change: TypeAlias = Published | Moved | Removed | Configured | Weighed | Tried | Serving | Rolled


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
        """The change's name: `published`, `moved`, `removed`, `configured`, `weighed`, `tried`, `serving`, `rolled`."""
        return str(type(self.change).__struct_config__.tag)
