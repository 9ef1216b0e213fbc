"""What travels between the control API and its client, beside the answers of `control/answers.py`.

Who asks is a header, as are bodies' types; why, and whether a refusal is overruled, stand in the body, or in the query
where the body is a bundle or there is none.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from penstock.assignment import Experiment
from penstock.control.answers import ModelAnswer
from penstock.rollout.declared import Plan

BUNDLE_MEDIA: Final = "application/vnd.penstock.bundle"
JSON_MEDIA: Final = "application/json"
TAR_MEDIA: Final = "application/x-tar"
WHO_HEADER: Final = "X-Penstock-Who"

MAX_REASON_CHARS: Final = 1000
PLAIN_TEXT: Final = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$"
"""No control characters but tab and line feed: reasons are shown on terminals, and PostgreSQL takes no NUL."""

Reason = Annotated[str, Meta(max_length=MAX_REASON_CHARS, pattern=PLAIN_TEXT, description="Why; kept in the history.")]
ErasingReason = Annotated[
    str,
    Meta(min_length=1, max_length=MAX_REASON_CHARS, pattern=PLAIN_TEXT, description="Why; kept in the history."),
]
Revision = Annotated[
    int, Meta(ge=0, le=2**53, description="The model's revision that was read before: 409 if it has changed since.")
]
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Why(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a change is asked for; `force` overrules what may be overruled, and needs a reason."""

    reason: Reason | None = None
    force: bool = False
    if_revision: Revision | None = None


class MoveBody(Why, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version that an alias is to name."""

    version: Version


class WeighBody(Why, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The experiment that the model is to have from now on, as a whole; null ends it. `spans` are not looked at."""

    experiment: Experiment | None


class RolloutBody(Why, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version that is to become champion step by step, and how; the plan has defaults for everything."""

    version: Version
    plan: Plan = Plan()


class ApplyBody(Why, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A declared state as YAML text; with `dry_run` only the difference is told."""

    declared: Annotated[str, Meta(max_length=1 << 20)]
    dry_run: bool = False


class GarbageBody(Why, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Remove by rule; with `dry_run` only say what would go."""

    dry_run: bool = False


class EraseBody(Why, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The records to erase: by their request ids, or by the keys of their entities, in clear. It needs a reason."""

    reason: ErasingReason
    request_ids: Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=1000)] = []
    keys: Annotated[list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=1000)] = []


class ModelsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All models, by name."""

    models: list[ModelAnswer]


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is gone."""

    model: str
    version: int


class HealthAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The controller answers; whether the state can be read is not asked here."""

    status: Literal["ok"] = "ok"
    penstock: str


class ControlErrorDetail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The inside of an error: a stable code and a message for a person. Of `move_refused` also each reason, and whether
    `force` overrules them.
    """

    code: str
    message: str
    reasons: list[str] = []
    may_force: bool = False


class ControlErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is none."""

    error: ControlErrorDetail
