"""The table of guardrails: what a rollout watches, how strictly, and what share of alpha each has.

From docs/rollouts.md: a hard one in alarm aborts, a soft one holds. One table, read by `evidence.py` and by the pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

Kind: TypeAlias = Literal["hard", "soft"]

ALPHA_OF: Final[dict[Kind, float]] = {"hard": 0.04, "soft": 0.01}
"""The chance of a false alarm of all guardrails of a kind together, over the whole life of a rollout."""

DECILES: Final = tuple(f"score_decile_{number}" for number in range(1, 11))


class Guardrail(msgspec.Struct, frozen=True):
    """A yes/no event per request. `r0`: the ratio of rates, canary to champion, that is still allowed.

    `is_mirrored`: it is the *champion's* rate that must not be above `r0` times the canary's.
    """

    name: str
    kind: Kind
    r0: float
    is_mirrored: bool = False


GUARDRAILS: Final[tuple[Guardrail, ...]] = (
    Guardrail("error", "hard", 1.0),
    Guardrail("refused_output", "hard", 1.0),
    Guardrail("missed_deadline", "hard", 1.0),
    Guardrail("slow", "soft", 2.0),
    Guardrail("out_of_range", "soft", 2.0),
    Guardrail("fallback", "soft", 2.0),
    *(Guardrail(name, "soft", 2.0) for name in DECILES),
    Guardrail("label_loss", "soft", 1.25),
    Guardrail("labelled_more", "soft", 1.25),
    Guardrail("labelled_less", "soft", 1.25, is_mirrored=True),
)
"""All that a rollout may watch; `Watched` says which of them it does."""


class Watched(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one rollout watches.

    - `value_range`: from where to where a value is usual; outside it is `out_of_range`, which is off without it.
    - `is_recalibrated`: the scores are meant to move, so that the deciles are off.
    - `score_edges`: nine ascending bounds between the deciles of the champion's scores; without them they are learnt
      from the champion's first requests.
    - `label_delay_s`: how old a request is when its label is looked at; without it labels are not watched.
    - `label_loss_above`: what loss is an event; `is_label_hard`: such an alarm aborts.
    - `planned_requests`: of both arms; the intervals of means are the narrowest there.
    """

    value_range: tuple[float, float] | None = None
    is_recalibrated: bool = False
    score_edges: tuple[float, ...] | None = None
    label_delay_s: Annotated[float, Meta(ge=0)] | None = None
    label_loss_above: float = 0.5
    is_label_hard: bool = False
    planned_requests: Annotated[int, Meta(ge=1)] = 10_000

    @property
    def guardrails(self) -> tuple[Guardrail, ...]:
        """Those of the table that are on."""
        off = set(DECILES) if self.is_recalibrated else set[str]()
        if self.value_range is None:
            off.add("out_of_range")
        if self.label_delay_s is None:
            off |= {"label_loss", "labelled_more", "labelled_less"}
        return tuple(self._declared(guardrail) for guardrail in GUARDRAILS if guardrail.name not in off)

    def _declared(self, guardrail: Guardrail) -> Guardrail:
        if guardrail.name == "label_loss" and self.is_label_hard:
            return msgspec.structs.replace(guardrail, kind="hard")
        return guardrail


def limit_of(kind: Kind, guardrails: Sequence[Guardrail]) -> float:
    """Where E of a guardrail of `kind` is an alarm: how many there are of the kind, over their alpha."""
    return max(1, sum(guardrail.kind == kind for guardrail in guardrails)) / ALPHA_OF[kind]
