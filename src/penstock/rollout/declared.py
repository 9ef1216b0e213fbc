"""What is declared of a rollout: its `Plan`, every default of which is checked. `penstock rollout start` needs nothing
else; `docs/rollouts.md` shows the form in YAML.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from penstock.rollout.guardrails import Watched

Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
_STEPS: Final = (1.0, 5.0, 25.0, 50.0, 100.0)


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The stage before traffic: up to `rows` recorded rows of the last `days`, scored again. More than `max_errors` of
    them that fail or are refused abort the rollout, more than `max_flips` decided otherwise hold it.
    """

    rows: Annotated[int, Meta(ge=1)] = 10_000
    days: Positive = 7.0
    max_errors: Share = 0.0
    max_flips: Share = 1.0


class ShadowOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The stage beside live traffic: `pairs` of the champion's answers are scored as well; bounds as for replay."""

    pairs: Annotated[int, Meta(ge=1)] = 1_000
    max_errors: Share = 0.0
    max_flips: Share = 1.0


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a version comes to be the champion.

    - `steps`: percent of the calls, rising; the last one is what is proven before the version becomes champion.
    - `step_s`: the least seconds of a step. `step_requests`: after as many canary requests in one step without proof
      it is inconclusive, and held.
    - `replay`, `shadow`: the stages before; null leaves one out.
    - `watch`: what is changed of the guardrails, and whether labels are evidence, too.
    - `has_approval` (`approve` in YAML): a person approves before the version becomes champion.
    """

    steps: tuple[float, ...] = _STEPS
    step_s: Annotated[float, Meta(ge=0)] = 300.0
    step_requests: Annotated[int, Meta(ge=100)] = 50_000
    replay: ReplayOptions | None = ReplayOptions()
    shadow: ShadowOptions | None = ShadowOptions()
    watch: Watched = Watched()
    has_approval: bool = msgspec.field(default=False, name="approve")

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip((0.0, *self.steps), self.steps, strict=False))
        if not self.steps or not rising or self.steps[-1] > 100.0:
            raise ValueError(f"Expected `steps` in percent that rise up to 100, got {list(self.steps)}")

    def buckets(self, step: int) -> int:
        """Of 10,000 buckets, how many the canary has at a step."""
        return max(1, round(self.steps[step] * 100))
