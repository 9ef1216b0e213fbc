"""The values that can arrive in a numeric field, in their order and as whole numbers: neighbours differ by one.

Doubles for a float field, float32 values where the training frame was float32, whole numbers for an int field.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from penstock.bundle.compile.pullback import doubles, ordinals
from penstock.schema import Field

_MOST = 2.0**53
_BOUND = {"double": float(np.finfo(np.float64).max), "single": float(np.finfo(np.float32).max), "whole": _MOST}


class Lattice(msgspec.Struct, frozen=True):
    """The order of the values of one field: `places` numbers them, `values` gives them back; both elementwise."""

    kind: Literal["double", "single", "whole"]
    low: float
    high: float

    def places(self, values: np.ndarray) -> np.ndarray:
        """The numbers of the values nearest to these, within the field's range; int64."""
        held = np.clip(values, self.low, self.high)
        if self.kind == "whole":
            return np.asarray(np.rint(held), dtype=np.int64)
        if self.kind == "double":
            return ordinals(held)
        bits = held.astype(np.float32).view(np.int32).astype(np.int64)
        return np.asarray(np.where(bits < 0, -(bits & 0x7FFFFFFF) - 1, bits))

    def values(self, places: np.ndarray) -> np.ndarray:
        """The values of these numbers; float64."""
        if self.kind == "whole":
            return places.astype(np.float64)
        if self.kind == "double":
            return doubles(places)
        bits = np.where(places < 0, (-(places + 1)) | 0x80000000, places)
        return np.asarray(bits.astype(np.uint32).view(np.float32), dtype=np.float64)


def lattice_of(field: Field) -> Lattice:
    """The lattice of a float, int or bool field, within its range."""
    single = (field.dtype or "").lower() == "float32"
    kind: Literal["double", "single", "whole"] = "whole" if field.type != "float" else "single" if single else "double"
    low, high = field.range or (None, None)
    if field.type == "bool":
        low, high = 0.0, 1.0
    bound = _BOUND[kind]
    return Lattice(kind, max(-bound, -bound if low is None else low), min(bound, bound if high is None else high))
