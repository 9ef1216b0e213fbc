"""Which versions are let go above the memory budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.runtime.budget import UNUSED_S, Resident, let_go

NOW_S = 10_000.0


def resident(number: int, *, mb: int = 10, idle_s: float = 0.0, named: bool = False, lazy: bool = False) -> Resident:
    return Resident(("m", number), mb, NOW_S - idle_s, named, lazy)


def test_those_that_nothing_names_go_first() -> None:
    """The least recently used of them, and no more than has to."""
    residents = [
        resident(1, idle_s=900, named=True, lazy=True),
        resident(2, idle_s=5),
        resident(3, idle_s=50),
        resident(4, idle_s=800, named=True),
    ]
    assert [] == let_go(residents, 40, NOW_S)
    assert [("m", 3)] == let_go(residents, 30, NOW_S)
    assert [("m", 3), ("m", 2), ("m", 1)] == let_go(residents, 10, NOW_S)
    assert [("m", 3), ("m", 2), ("m", 1)] == let_go(residents, 0, NOW_S)


def test_a_lazy_one_in_use_stays() -> None:
    """Named by an alias it goes after a while without a run, so that two of them do not take turns."""
    residents = [resident(1, idle_s=UNUSED_S - 1, named=True, lazy=True), resident(2, named=True, lazy=True)]
    assert [] == let_go(residents, 5, NOW_S)
    assert [("m", 1)] == let_go(residents, 5, NOW_S + 1)


RESIDENTS = st.lists(
    st.builds(
        Resident,
        st.tuples(st.just("m"), st.integers(0, 10**9)),
        st.integers(0, 50),
        st.floats(0, NOW_S),
        st.booleans(),
        st.booleans(),
    ),
    max_size=8,
    unique_by=lambda each: each.key,
)


@given(RESIDENTS, st.integers(0, 200))
def test_never_more_than_has_to(residents: list[Resident], budget: int) -> None:
    """What stays fits, or nothing is left that may go; the last that went was needed; what is eager and named stays."""
    by_key = {each.key: each for each in residents}
    gone = let_go(residents, budget, NOW_S)
    stays = [each for each in residents if each.key not in gone]
    taken = sum(each.memory_bytes for each in stays)
    may_go = [each for each in stays if not each.is_named or (each.is_lazy and NOW_S - each.ran_s >= UNUSED_S)]
    assert taken <= budget or [] == may_go
    assert not gone or taken + by_key[gone[-1]].memory_bytes > budget
    assert all(not by_key[key].is_named or by_key[key].is_lazy for key in gone)
    assert len(gone) == len(set(gone))
