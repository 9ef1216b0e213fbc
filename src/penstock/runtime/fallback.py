"""What answers in place of a model that cannot: declared per model, checked against its outputs when it is loaded."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from penstock.bundle.outputs import OutputSpec
from penstock.errors import SettingsError
from penstock.routing import FallbackOptions
from penstock.schema.prediction import Prediction

FallbackKind: TypeAlias = Literal["constant", "version", "abstain"]


class Fallback(msgspec.Struct, frozen=True):
    """A declared fallback.

    - `constant`: `prediction` for every row
    - `version`: the answer of the loaded version `version` of the same model
    - `abstain`: a prediction without label or value for every row, for a person to look at
    """

    kind: FallbackKind
    prediction: Prediction | None = None
    version: int | None = None

    @classmethod
    def of(cls, options: FallbackOptions) -> Fallback:
        """As it is declared, in the settings or of a model."""
        constant = options.prediction
        prediction = None if constant is None else Prediction(**msgspec.structs.asdict(constant))
        return cls(options.kind, prediction, options.version)

    def predictions(self, rows: int) -> list[Prediction]:
        """The answer for `rows` rows; not for the kind `version`."""
        return [self.prediction or Prediction()] * rows


def require_fits(fallback: Fallback, name: str, spec: OutputSpec) -> None:
    """Raise SettingsError unless `fallback` is complete, and its constant is what a model of `spec` may answer."""
    place = f"at `fallback.{name}`"
    has = (fallback.prediction is not None, fallback.version is not None)
    wanted = (fallback.kind == "constant", fallback.kind == "version")
    if has != wanted:
        raise SettingsError(
            f"Expected `prediction` with the kind constant, `version` with the kind version, and neither with abstain; "
            f"got the kind {fallback.kind} with {_given(fallback)} - {place}. Correct the settings file."
        )
    if fallback.prediction is not None:
        wrong = _misfit(fallback.prediction, spec)
        if wrong is not None:
            raise SettingsError(f"Expected a prediction that {name} could give: {wrong} - {place}. Correct it.")


def _given(fallback: Fallback) -> str:
    given = [name for name in ("prediction", "version") if getattr(fallback, name) is not None]
    return " and ".join(given) or "neither"


def _misfit(prediction: Prediction, spec: OutputSpec) -> str | None:
    """What is wrong with a constant, or None."""
    members = {name for name in prediction.__struct_fields__ if getattr(prediction, name) is not None}
    expected = _members(spec)
    if members != expected:
        return f"expected {' and '.join(sorted(expected))}, got {' and '.join(sorted(members)) or 'nothing'}"
    kinds = [(type(label), label) for label in spec.classes]
    if prediction.label is not None and (type(prediction.label), prediction.label) not in kinds:
        return f"expected a label out of {list(spec.classes)}, got {prediction.label!r}"
    for name, keys in (("probabilities", spec.class_keys), ("values", spec.targets)):
        numbers = getattr(prediction, name)
        if numbers is not None and (tuple(numbers) != keys or not all(map(math.isfinite, numbers.values()))):
            return f"expected finite {name} of {', '.join(keys)} in this order, got {numbers}"
    if prediction.probabilities is not None and not _is_distribution(prediction.probabilities):
        return f"expected probabilities from 0 to 1 that sum to 1, got {prediction.probabilities}"
    if prediction.value is not None and not math.isfinite(prediction.value):
        return f"expected a finite value, got {prediction.value}"
    return None


def _members(spec: OutputSpec) -> set[str]:
    if spec.kind == "classification":
        return {"label", "probabilities"} if spec.has_probabilities else {"label"}
    return set(spec.names)


def _is_distribution(probabilities: dict[str, float]) -> bool:
    values = probabilities.values()
    return min(values) >= 0 and math.isclose(sum(values), 1, abs_tol=1e-6)
