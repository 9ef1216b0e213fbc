"""What a model answers: the declared outputs of a bundle (`outputs.json`) and the arrays that carry them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import numpy as np

ClassLabel: TypeAlias = bool | int | str

Outputs: TypeAlias = dict[str, np.ndarray]
"""Named outputs of one run over n rows; which names are there is told by `OutputSpec.names`.

- `label`          int64 `[n]`: an index into `OutputSpec.classes`
- `probabilities`  float64 `[n, k]`: one column per class, in the order of `OutputSpec.classes`
- `value`          float64 `[n]`: a regression's value, an anomaly detector's decision function
- `values`         float64 `[n, t]`: one column per target, in the order of `OutputSpec.targets`
"""


class OutputSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The declared outputs of a bundle; decides answers, so it is part of the content digest."""

    kind: Literal["classification", "regression", "anomaly"]
    classes: tuple[ClassLabel, ...] = ()
    targets: tuple[str, ...] = ()
    has_probabilities: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays in `Outputs`, in a fixed order."""
        if self.kind == "classification":
            return ("label", "probabilities") if self.has_probabilities else ("label",)
        if self.kind == "anomaly":
            return ("label", "value")
        return ("values",) if self.targets else ("value",)

    @property
    def class_keys(self) -> tuple[str, ...]:
        """The classes as keys of a JSON object: their JSON text, texts as they are."""
        return tuple(class_key(label) for label in self.classes)


def class_key(label: ClassLabel) -> str:
    """A class as a key of a JSON object."""
    if isinstance(label, bool):
        return "true" if label else "false"
    return str(label)
