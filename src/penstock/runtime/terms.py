"""How a version is served beside what it is: its bounds, what answers in its place, how its labels are decided.

From the settings, and from what the table's routes say of its model (`routing.ModelOptions`), which comes first.
"""

from __future__ import annotations

import msgspec

from penstock.errors import SettingsError
from penstock.routing import Decision, ModelLimits, ModelOptions
from penstock.runtime.decision import require_decides
from penstock.runtime.fallback import Fallback, require_fits
from penstock.runtime.version import Version


class Limits(msgspec.Struct, frozen=True):
    """What each version takes on: rows that wait or are computed, failures in a row, seconds of rest after them; and
    what all of them together: `memory_bytes` of the loaded ones, None for any.
    """

    queue_rows: int = 10_000
    breaker_failures: int = 10
    breaker_open_s: float = 5.0
    memory_bytes: int | None = None

    def with_those_of(self, model: ModelLimits | None) -> Limits:
        """The same, but for what is set for a model."""
        given = {} if model is None else msgspec.structs.asdict(model)
        return msgspec.structs.replace(self, **{name: value for name, value in given.items() if value is not None})


class Terms(msgspec.Struct, frozen=True):
    """How one version is served."""

    limits: Limits
    fallback: Fallback | None = None
    decision: Decision | None = None


def terms_of(
    model: Version, options: ModelOptions, *, limits: Limits, fallback: Fallback | None, is_named: bool
) -> Terms:
    """The terms of `model` by its routes' options; `limits` and `fallback` are the settings'.

    Raises SettingsError for a fallback or a decision that does not fit its outputs. A version that no alias names
    (`is_named`) does without them instead: it is kept from before they were declared, and must not stand in their way.
    """
    name, spec = model.name, model.bundle.outputs
    fallback = fallback if options.fallback is None else Fallback.of(options.fallback)
    decision = options.decision
    try:
        if fallback is not None:
            require_fits(fallback, name, spec)
    except SettingsError:
        if is_named:
            raise
        fallback = None
    try:
        if decision is not None:
            require_decides(decision, name, spec)
    except SettingsError:
        if is_named:
            raise
        decision = None
    if fallback is not None and fallback.version == model.version:
        fallback = None  # it cannot stand in for itself
    return Terms(limits.with_those_of(options.limits), fallback, decision)
