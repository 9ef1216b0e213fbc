"""The lattice of a field: its possible values in order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.bundle.compile.lattice import lattice_of
from penstock.schema import Field

FIELDS = {
    "double": Field(name="x", type="float"),
    "single": Field(name="x", type="float", dtype="float32"),
    "whole": Field(name="x", type="int", range=(-1000.0, None)),
}


@pytest.mark.parametrize("name", FIELDS)
@given(one=st.floats(-900, 1e15), other=st.floats(-900, 1e15))
def test_places_keep_order_and_come_back(name: str, one: float, other: float) -> None:
    """Places are ordered as values are, and a value that was held once stays itself."""
    lattice = lattice_of(FIELDS[name])
    places = lattice.places(np.array([one, other]))
    held = lattice.values(places)
    assert places.tolist() == lattice.places(held).tolist()
    assert (held[0] <= held[1]) == (places[0] <= places[1]) or held[0] == held[1]


def test_neighbours_of_single() -> None:
    """Between two neighbouring places of a float32 field there is no float32 value."""
    lattice = lattice_of(FIELDS["single"])
    place = lattice.places(np.array([1.0]))
    assert float(np.nextafter(np.float32(1.0), np.float32(2.0))) == lattice.values(place + 1)[0]


def test_range_is_kept() -> None:
    """Values outside the field's range are brought to its end."""
    lattice = lattice_of(FIELDS["whole"])
    assert [-1000.0, 7.0] == lattice.values(lattice.places(np.array([-5e9, 7.2]))).tolist()
