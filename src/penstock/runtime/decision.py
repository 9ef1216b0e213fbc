"""How a label is decided from a probability, where a model's routes say so: behind the model, before any protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from penstock.bundle.outputs import OutputSpec
from penstock.errors import SettingsError
from penstock.routing import Decision, listed
from penstock.schema.prediction import Prediction

Decide: TypeAlias = Callable[[Sequence[Prediction]], list[Prediction]]
"""The same predictions with the labels that were decided; without a label where nothing is to be decided."""


def require_decides(decision: Decision, name: str, spec: OutputSpec) -> None:
    """Raise SettingsError unless `decision` can be made of the answers of a model of `spec`, called `name`."""
    wrong = _misfit(decision, spec)
    if wrong is not None:
        raise SettingsError(f"{wrong} - at `decision` of {name!r}. Correct what is declared of the model.")


def decide_by(decision: Decision, spec: OutputSpec) -> Decide:
    """The decision as a function, for answers of a model of `spec`: `label` from `threshold` on, none in the band.

    The band holds its lower end, and not its upper one.
    """
    key, threshold = decision.label, decision.threshold
    label, otherwise = (spec.classes[spec.class_keys.index(each)] for each in (key, decision.otherwise))
    low, high = decision.abstain or (threshold, threshold)

    def decide(predictions: Sequence[Prediction]) -> list[Prediction]:
        found = []
        for prediction in predictions:
            probabilities = prediction.probabilities or {}
            share = probabilities[key]
            decided = None if low <= share < high else label if share >= threshold else otherwise
            found.append(Prediction(decided, probabilities))
        return found

    return decide


def _misfit(decision: Decision, spec: OutputSpec) -> str | None:
    if not spec.has_probabilities:
        return f"Expected a model that answers `probabilities`, got one of {', '.join(spec.names)}"
    for member in ("label", "otherwise"):
        if getattr(decision, member) not in spec.class_keys:
            return f"Expected `{member}` to be one of {listed(spec.class_keys)}, got {getattr(decision, member)!r}"
    if decision.label == decision.otherwise:
        return f"Expected two labels to decide between, got {decision.label!r} twice"
    low, high = decision.abstain or (decision.threshold, decision.threshold)
    if not 0 <= low <= decision.threshold <= high <= 1:
        return f"Expected `abstain` to be a band around the threshold {decision.threshold:g}, got {low:g} to {high:g}"
    return None
